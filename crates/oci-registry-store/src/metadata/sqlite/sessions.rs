//! The transactions about uploads and the objects that they write.

use bytes::Bytes;
use oci_ref::{Error, ErrorKind};
use oci_spec_types::{Digest, Name};
use rusqlite::{Connection, OptionalExtension};

use super::failure::Outcome;
use crate::metadata::{Claimed, Content, Progress, SessionRecord, SessionState, columns, refusals};
use crate::objects::ObjectKey;
use crate::upload::{Held, SessionId};

pub(super) fn begin_object(db: &Connection, key: &ObjectKey) -> Outcome<()> {
    db.prepare_cached("INSERT INTO pending_object (key) VALUES (?1)")?.execute([key.as_str()])?;
    Ok(())
}

pub(super) fn note_object(db: &Connection, key: &ObjectKey, state: &[u8]) -> Outcome<()> {
    let noted = db
        .prepare_cached(
            "UPDATE pending_object SET state = ?2 WHERE key = ?1 AND delete_after IS NULL",
        )?
        .execute((key.as_str(), state))?;
    if noted == 1 { Ok(()) } else { Err(not_pending(key).into()) }
}

pub(super) fn object_state(db: &Connection, key: &ObjectKey) -> Outcome<Option<Bytes>> {
    let mut find = db.prepare_cached("SELECT state FROM pending_object WHERE key = ?1")?;
    let state: Option<Option<Vec<u8>>> =
        find.query_row([key.as_str()], |row| row.get(0)).optional()?;
    Ok(state.flatten().map(Bytes::from))
}

pub(super) fn condemn_object(db: &Connection, key: &ObjectKey) -> Outcome<bool> {
    let mut condemn = db.prepare_cached(
        "UPDATE pending_object SET delete_after = 0
         WHERE key = ?1 AND NOT EXISTS (SELECT 1 FROM session WHERE session.object = ?1)",
    )?;
    Ok(condemn.execute([key.as_str()])? == 1)
}

pub(super) fn forget_objects(db: &Connection, keys: &[ObjectKey]) -> Outcome<()> {
    let mut forget = db
        .prepare_cached("DELETE FROM pending_object WHERE key = ?1 AND delete_after IS NOT NULL")?;
    for key in keys {
        forget.execute([key.as_str()])?;
    }
    Ok(())
}

pub(super) fn due_objects(db: &Connection, now: i64, limit: usize) -> Outcome<Vec<ObjectKey>> {
    let mut list = db.prepare_cached(
        "SELECT key FROM pending_object WHERE delete_after <= ?1 ORDER BY delete_after LIMIT ?2",
    )?;
    let found =
        list.query_map((now, columns::stored_limit(limit)), |row| row.get::<_, String>(0))?;
    found.map(|key| Ok(columns::object_key(&key?)?)).collect()
}

pub(super) fn postpone_object(db: &Connection, key: &ObjectKey, until: i64) -> Outcome<()> {
    db.prepare_cached(
        "UPDATE pending_object SET delete_after = ?2 WHERE key = ?1 AND delete_after IS NOT NULL",
    )?
    .execute((key.as_str(), until))?;
    Ok(())
}

pub(super) fn stray_objects(
    db: &Connection,
    after: Option<&ObjectKey>,
    limit: usize,
) -> Outcome<Vec<ObjectKey>> {
    let mut list = db.prepare_cached(
        "SELECT key FROM pending_object
         WHERE key > ?1 AND delete_after IS NULL
         AND NOT EXISTS (SELECT 1 FROM session WHERE session.object = key)
         ORDER BY key LIMIT ?2",
    )?;
    let after = after.map_or("", ObjectKey::as_str);
    let found =
        list.query_map((after, columns::stored_limit(limit)), |row| row.get::<_, String>(0))?;
    found.map(|key| Ok(columns::object_key(&key?)?)).collect()
}

pub(super) fn held(db: &Connection) -> Outcome<Held> {
    let mut count = db.prepare_cached("SELECT count(*), coalesce(sum(offset), 0) FROM session")?;
    let (uploads, bytes) = count.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Held { uploads: columns::size(uploads)?, bytes: columns::size(bytes)? })
}

pub(super) fn get(db: &Connection, repository: &Name, id: &SessionId) -> Outcome<SessionState> {
    let mut find = db.prepare_cached(
        "SELECT version, offset, hash_state, touched, object, data, pending_object.state FROM session
         LEFT JOIN pending_object ON pending_object.key = session.object
         WHERE id = ?1 AND repository = ?2",
    )?;
    let found = find.query_row((id.as_str(), repository.as_str()), |row| {
        let place = (row.get(4)?, row.get(5)?);
        let state: Option<Vec<u8>> = row.get(6)?;
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, place, state))
    });
    if let Some((version, offset, hash_state, touched, (object, data), state)) = found.optional()? {
        return Ok(SessionState::Open(SessionRecord {
            version,
            offset: columns::size(offset)?,
            hash_state,
            content: columns::content(object, data)?,
            state: state.unwrap_or_default().into(),
            touched,
        }));
    }
    let mut find = db.prepare_cached("SELECT digest FROM closed_session WHERE id = ?1")?;
    let closed = find.query_row([id.as_str()], |row| row.get::<_, Option<String>>(0)).optional()?;
    Ok(match closed {
        Some(digest) => SessionState::Closed(
            digest.map(|digest| columns::parse("a digest", &digest)).transpose()?,
        ),
        None => SessionState::Blank,
    })
}

pub(super) fn record(db: &Connection, progress: &Progress) -> Outcome<()> {
    if let Content::Object(key) = &progress.content {
        note_object(db, key, &progress.state)?;
    }
    let session = &progress.session;
    let (object, data) = columns::place(&progress.content);
    let offset = columns::stored_size(progress.offset);
    let recorded = match session.version {
        None if is_closed(db, &session.id)? => 0,
        None => db
            .prepare_cached(
                "INSERT INTO session (id, repository, version, offset, hash_state, touched, object, data)
                 VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING",
            )?
            .execute((
                session.id.as_str(),
                progress.repository.as_str(),
                offset,
                &progress.hash_state,
                progress.now,
                object,
                data,
            ))?,
        Some(version) => db
            .prepare_cached(
                "UPDATE session SET version = version + 1, offset = ?3, hash_state = ?4, touched = ?5,
                 object = ?6, data = ?7 WHERE id = ?1 AND version = ?2",
            )?
            .execute((
                session.id.as_str(),
                version,
                offset,
                &progress.hash_state,
                progress.now,
                object,
                data,
            ))?,
    };
    if recorded == 1 { Ok(()) } else { Err(lost(db, &session.id)?.into()) }
}

pub(super) fn not_pending(key: &ObjectKey) -> Error {
    Error::new(ErrorKind::Internal, format!("object {key} is not pending any more"))
}

/// Ends a session, of which a blob came or not. The object that it owned is the closer's.
pub(super) fn close(
    db: &Connection,
    session: &Claimed,
    blob: Option<&Digest>,
) -> Outcome<Option<ObjectKey>> {
    let object: Option<String> = match session.version {
        Some(version) => {
            let mut delete = db.prepare_cached(
                "DELETE FROM session WHERE id = ?1 AND version = ?2 RETURNING object",
            )?;
            let deleted =
                delete.query_row((session.id.as_str(), version), |row| row.get(0)).optional()?;
            match deleted {
                Some(object) => object,
                None => return Err(lost(db, &session.id)?.into()),
            }
        }
        None => {
            let mut find = db.prepare_cached("SELECT 1 FROM session WHERE id = ?1")?;
            if find.exists([session.id.as_str()])? {
                return Err(lost(db, &session.id)?.into());
            }
            None
        }
    };
    let closed = db
        .prepare_cached(
            "INSERT INTO closed_session (id, digest) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        )?
        .execute((session.id.as_str(), blob.map(Digest::as_str)))?;
    match closed {
        0 => Err(lost(db, &session.id)?.into()),
        _ => Ok(object.map(|key| columns::object_key(&key)).transpose()?),
    }
}

fn is_closed(db: &Connection, id: &SessionId) -> Outcome<bool> {
    Ok(db.prepare_cached("SELECT 1 FROM closed_session WHERE id = ?1")?.exists([id.as_str()])?)
}

/// The error for a claim that does not hold any more, with the offset at which the session truly is.
fn lost(db: &Connection, id: &SessionId) -> Outcome<Error> {
    let mut find = db.prepare_cached("SELECT offset FROM session WHERE id = ?1")?;
    let offset: Option<i64> = find.query_row([id.as_str()], |row| row.get(0)).optional()?;
    Ok(refusals::lost_claim(id, offset)?)
}

pub(super) fn idle(db: &Connection, before: i64, limit: usize) -> Outcome<Vec<Claimed>> {
    let mut list = db.prepare_cached(
        "SELECT id, version FROM session WHERE touched < ?1 ORDER BY touched LIMIT ?2",
    )?;
    let found = list.query_map((before, columns::stored_limit(limit)), |row| {
        Ok((row.get::<_, String>(0)?, row.get(1)?))
    })?;
    found
        .map(|found| {
            let (id, version) = found?;
            let id = SessionId::parse(&id).ok_or_else(|| columns::corrupt("an upload id", &id))?;
            Ok(Claimed { id, version: Some(version) })
        })
        .collect()
}

pub(super) fn forget_closed(db: &Connection, below: &SessionId, limit: usize) -> Outcome<usize> {
    let mut forget = db.prepare_cached(
        "DELETE FROM closed_session WHERE id IN
         (SELECT id FROM closed_session WHERE id < ?1 ORDER BY id LIMIT ?2)",
    )?;
    Ok(forget.execute((below.as_str(), columns::stored_limit(limit)))?)
}

pub(super) fn secret(db: &Connection, fresh: &[u8; 32]) -> Outcome<[u8; 32]> {
    const NAME: &str = "session-secret";
    db.execute(
        "INSERT INTO setting (name, value) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        (NAME, fresh),
    )?;
    let kept: Vec<u8> =
        db.query_row("SELECT value FROM setting WHERE name = ?1", [NAME], |row| row.get(0))?;
    kept.try_into()
        .map_err(|_| columns::corrupt("the upload secret", &"a value of another length").into())
}
