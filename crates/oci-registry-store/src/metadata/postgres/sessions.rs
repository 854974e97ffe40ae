//! The transactions about uploads and the objects that they write.

use bytes::Bytes;
use oci_ref::{Error, ErrorKind};
use oci_spec_types::{Digest, Name};

use super::failure::{Failure, Outcome};
use super::lease::{self, ALIVE};
use super::run::{Db, get};
use crate::metadata::{Claimed, Content, Progress, SessionRecord, SessionState, columns, refusals};
use crate::objects::ObjectKey;
use crate::upload::{Held, SessionId};

pub(super) async fn begin_object(db: &Db, key: &ObjectKey, writer: &str) -> Outcome<()> {
    let insert = "INSERT INTO pending_object (key, writer) VALUES ($1, $2)";
    db.execute(insert, &[&key.as_str(), &writer]).await?;
    Ok(())
}

pub(super) async fn note_object(db: &Db, key: &ObjectKey, state: &[u8]) -> Outcome<()> {
    let note = "UPDATE pending_object SET state = $2 WHERE key = $1 AND delete_after IS NULL";
    match db.execute(note, &[&key.as_str(), &state]).await? {
        0 => Err(not_pending(key)),
        _ => Ok(()),
    }
}

pub(super) async fn object_state(db: &Db, key: &ObjectKey) -> Outcome<Option<Bytes>> {
    let find = "SELECT state FROM pending_object WHERE key = $1";
    let state: Option<Option<Vec<u8>>> = db.value(find, &[&key.as_str()]).await?;
    Ok(state.flatten().map(Bytes::from))
}

/// Locks the object first, so that the statement that looks for a session sees what was committed before nobody could record
/// one any more.
pub(super) async fn condemn_object(db: &Db, key: &ObjectKey) -> Outcome<bool> {
    let key = key.as_str();
    db.execute("SELECT 1 FROM pending_object WHERE key = $1 FOR UPDATE", &[&key]).await?;
    let condemned = db
        .execute(
            "UPDATE pending_object SET delete_after = coalesce(delete_after, 0)
             WHERE key = $1 AND NOT EXISTS (SELECT 1 FROM session WHERE session.object = $1)",
            &[&key],
        )
        .await?;
    Ok(condemned == 1)
}

pub(super) async fn forget_objects(db: &Db, keys: &[ObjectKey]) -> Outcome<()> {
    let keys: Vec<&str> = keys.iter().map(ObjectKey::as_str).collect();
    let forget = "DELETE FROM pending_object WHERE key = ANY ($1) AND delete_after IS NOT NULL";
    db.execute(forget, &[&keys]).await?;
    Ok(())
}

pub(super) async fn due_objects(db: &Db, now: i64, limit: usize) -> Outcome<Vec<ObjectKey>> {
    let list =
        "SELECT key FROM pending_object WHERE delete_after <= $1 ORDER BY delete_after LIMIT $2";
    keys(db.rows(list, &[&now, &columns::stored_limit(limit)]).await?)
}

pub(super) async fn postpone_object(db: &Db, key: &ObjectKey, until: i64) -> Outcome<()> {
    let postpone =
        "UPDATE pending_object SET delete_after = $2 WHERE key = $1 AND delete_after IS NOT NULL";
    db.execute(postpone, &[&key.as_str(), &until]).await?;
    Ok(())
}

/// Those whose writer is dead. An object of a session has no need of a writer.
pub(super) async fn stray_objects(
    db: &Db,
    after: Option<&ObjectKey>,
    limit: usize,
) -> Outcome<Vec<ObjectKey>> {
    let after = after.map_or("", ObjectKey::as_str);
    let list = format!(
        "SELECT key FROM pending_object
         WHERE key > $1 AND delete_after IS NULL
         AND NOT EXISTS (SELECT 1 FROM session WHERE session.object = key)
         AND NOT EXISTS (SELECT 1 FROM replica WHERE replica.id = writer AND {ALIVE})
         ORDER BY key LIMIT $2"
    );
    keys(db.rows(&list, &[&after, &columns::stored_limit(limit)]).await?)
}

fn keys(found: Vec<tokio_postgres::Row>) -> Outcome<Vec<ObjectKey>> {
    found.iter().map(|row| Ok(columns::object_key(get(row, 0)?)?)).collect()
}

pub(super) async fn held(db: &Db) -> Outcome<Held> {
    let count =
        "SELECT count(*), coalesce(sum(\"offset\"), 0)::bigint FROM session WHERE NOT closed";
    let Some(row) = db.row(count, &[]).await? else { return Ok(Held::default()) };
    Ok(Held { uploads: columns::size(get(&row, 0)?)?, bytes: columns::size(get(&row, 1)?)? })
}

pub(super) async fn get_session(
    db: &Db,
    repository: &Name,
    id: &SessionId,
) -> Outcome<SessionState> {
    let find = "SELECT closed, repository, version, \"offset\", hash_state, touched, object, data, pending_object.state,
                digest FROM session LEFT JOIN pending_object ON pending_object.key = session.object WHERE id = $1";
    let Some(row) = db.row(find, &[&id.as_str()]).await? else { return Ok(SessionState::Blank) };
    if get::<bool>(&row, 0)? {
        let blob: Option<&str> = get(&row, 9)?;
        return Ok(SessionState::Closed(
            blob.map(|digest| columns::parse("a digest", digest)).transpose()?,
        ));
    }
    if get::<&str>(&row, 1)? != repository.as_str() {
        return Ok(SessionState::Blank);
    }
    Ok(SessionState::Open(SessionRecord {
        version: get(&row, 2)?,
        offset: columns::size(get(&row, 3)?)?,
        hash_state: get(&row, 4)?,
        touched: get(&row, 5)?,
        content: columns::content(get(&row, 6)?, get(&row, 7)?)?,
        state: get::<Option<Vec<u8>>>(&row, 8)?.unwrap_or_default().into(),
    }))
}

/// A pending object is locked, so that nobody condemns it before the session that owns it is there.
async fn keep_pending(db: &Db, key: &ObjectKey, writer: &str, state: &[u8]) -> Outcome<bool> {
    let kept = db
        .execute(
            "UPDATE pending_object SET writer = $2, state = $3 WHERE key = $1 AND delete_after IS NULL",
            &[&key.as_str(), &writer, &state],
        )
        .await?;
    Ok(kept == 1)
}

/// Whoever was out of touch for so long that others took its object for abandoned can begin again.
pub(super) fn not_pending(key: &ObjectKey) -> Failure {
    let message = format!(
        "object {key} has been given up: this server was out of touch with the database for too long"
    );
    Error::new(ErrorKind::Unavailable, message).into()
}

pub(super) async fn record(db: &Db, progress: &Progress, writer: &str) -> Outcome<()> {
    let session = &progress.session;
    if let Content::Object(key) = &progress.content
        && !keep_pending(db, key, writer, &progress.state).await?
    {
        let find = "SELECT version FROM session WHERE id = $1";
        let version: Option<Option<i64>> = db.value(find, &[&session.id.as_str()]).await?;
        return Err(match version.flatten() == session.version {
            true => not_pending(key),
            false => lost(db, &session.id).await?.into(),
        });
    }
    let (id, repository) = (session.id.as_str(), progress.repository.as_str());
    let (object, data) = columns::place(&progress.content);
    let offset = columns::stored_size(progress.offset);
    let recorded = match session.version {
        None => {
            db.execute(
                "INSERT INTO session (id, repository, version, \"offset\", hash_state, touched, object, data)
                 VALUES ($1, $2, 1, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
                &[&id, &repository, &offset, &progress.hash_state, &progress.now, &object, &data],
            )
            .await?
        }
        Some(version) => {
            db.execute(
                "UPDATE session SET version = version + 1, \"offset\" = $3, hash_state = $4, touched = $5,
                 object = $6, data = $7 WHERE id = $1 AND version = $2",
                &[&id, &version, &offset, &progress.hash_state, &progress.now, &object, &data],
            )
            .await?
        }
    };
    if recorded == 0 {
        return Err(lost(db, &session.id).await?.into());
    }
    lease::release(db, &session.id, writer).await
}

/// Ends a session, of which a blob came or not. The object that it owned is the closer's.
pub(super) async fn close(
    db: &Db,
    session: &Claimed,
    blob: Option<&Digest>,
    writer: &str,
) -> Outcome<Option<ObjectKey>> {
    let (id, digest) = (session.id.as_str(), blob.map(Digest::as_str));
    let object = match session.version {
        Some(version) => {
            let find = "SELECT object FROM session WHERE id = $1 AND version = $2 FOR UPDATE";
            let Some(row) = db.row(find, &[&id, &version]).await? else {
                return Err(lost(db, &session.id).await?.into());
            };
            let object: Option<&str> = get(&row, 0)?;
            let object = object.map(columns::object_key).transpose()?;
            db.execute(
                "UPDATE session SET closed = true, repository = NULL, version = NULL, \"offset\" = NULL,
                 hash_state = NULL, touched = NULL, object = NULL, data = NULL, digest = $2 WHERE id = $1",
                &[&id, &digest],
            )
            .await?;
            if let Some(key) = &object {
                let own = "UPDATE pending_object SET writer = $2 WHERE key = $1";
                db.execute(own, &[&key.as_str(), &writer]).await?;
            }
            object
        }
        None => {
            let insert = "INSERT INTO session (id, closed, digest) VALUES ($1, true, $2)
                          ON CONFLICT DO NOTHING";
            if db.execute(insert, &[&id, &digest]).await? == 0 {
                return Err(lost(db, &session.id).await?.into());
            }
            None
        }
    };
    // Whoever has claimed it: it does not go on.
    db.execute("DELETE FROM claim WHERE session = $1", &[&id]).await?;
    Ok(object)
}

/// The error for a claim that does not hold any more, with the offset at which the session truly is.
async fn lost(db: &Db, id: &SessionId) -> Outcome<Error> {
    let find = "SELECT \"offset\" FROM session WHERE id = $1 AND NOT closed";
    let offset: Option<i64> = db.value(find, &[&id.as_str()]).await?;
    Ok(refusals::lost_claim(id, offset)?)
}

pub(super) async fn idle(db: &Db, before: i64, limit: usize) -> Outcome<Vec<Claimed>> {
    let list = "SELECT id, version FROM session WHERE NOT closed AND touched < $1 ORDER BY touched LIMIT $2";
    let found = db.rows(list, &[&before, &columns::stored_limit(limit)]).await?;
    let claimed = |row: &tokio_postgres::Row| {
        let id: &str = get(row, 0)?;
        let id = SessionId::parse(id).ok_or_else(|| columns::corrupt("an upload id", &id))?;
        Ok(Claimed { id, version: get(row, 1)? })
    };
    found.iter().map(claimed).collect()
}

pub(super) async fn forget_closed(db: &Db, below: &SessionId, limit: usize) -> Outcome<usize> {
    let forget = "DELETE FROM session WHERE id IN
                  (SELECT id FROM session WHERE closed AND id < $1 ORDER BY id LIMIT $2)";
    let forgotten = db.execute(forget, &[&below.as_str(), &columns::stored_limit(limit)]).await?;
    Ok(usize::try_from(forgotten).unwrap_or(usize::MAX))
}

pub(super) async fn secret(db: &Db, fresh: &[u8; 32]) -> Outcome<[u8; 32]> {
    const NAME: &str = "session-secret";
    let insert = "INSERT INTO setting (name, value) VALUES ($1, $2) ON CONFLICT DO NOTHING";
    db.execute(insert, &[&NAME, &fresh.as_slice()]).await?;
    let kept: Option<Vec<u8>> =
        db.value("SELECT value FROM setting WHERE name = $1", &[&NAME]).await?;
    let kept = kept.unwrap_or_default();
    kept.try_into()
        .map_err(|_| columns::corrupt("the upload secret", &"a value of another length").into())
}

/// Forgets replicas that are dead and have left nothing.
pub(super) async fn forget_replicas(db: &Db) -> Outcome<()> {
    db.execute(
        &format!(
            "DELETE FROM replica WHERE NOT ({ALIVE})
             AND NOT EXISTS (SELECT 1 FROM pending_object WHERE writer = replica.id)
             AND NOT EXISTS (SELECT 1 FROM claim WHERE holder = replica.id)"
        ),
        &[],
    )
    .await?;
    Ok(())
}
