//! Metadata in SQLite, in one file of the data directory.
//!
//! This process is the only one that opens the file (the data directory is locked), and one thread of it writes.

mod begun;
mod blobs;
mod check;
mod claims;
mod collect;
#[cfg(test)]
mod cost;
mod failure;
mod lists;
mod log;
mod manifests;
mod misfits;
mod open;
mod preview;
mod readers;
mod recent;
mod remove;
mod rows;
mod sessions;
mod stored;
mod writer;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{Manifest, Page, Result, Target};
use oci_spec_types::{Descriptor, Digest, Name, Tag};
use rusqlite::Connection;

use self::begun::Begun;
use self::claims::Claims;
use self::failure::Outcome;
use self::readers::Readers;
use self::recent::Recent;
use self::writer::Writer;
use super::{
    BlobRecord, BlobSize, CheckedLinks, Claim, Claimed, CollectStep, Collected, Cuts, Metadata,
    Misfit, NewBlob, NewManifest, Progress, Resolved, SessionState, Stored, StoredBlob,
    StoredManifest, UnknownManifest,
};
use crate::blocking;
use crate::objects::ObjectKey;
use crate::upload::{Held, SessionId};

/// The most for which memory is made ready before it is known what there is: 256 KiB.
const PART: u64 = 256 << 10;

/// The metadata in a SQLite file.
pub(crate) struct Sqlite {
    path: PathBuf,
    readers: Readers,
    writer: Writer,
    recent: Arc<Recent>,
    claims: Claims,
    begun: Begun,
}

impl Sqlite {
    /// Opens the file, or creates it, and keeps up to `cache` bytes of what is found in it: half as
    /// what names stand for, and half as pages that the readers share out among them. Blocks.
    ///
    /// # Errors
    /// If it is damaged, of another program, or of a newer version; then it has not been changed.
    pub(crate) fn open(path: &Path, sync: bool, cache: usize) -> Result<Self> {
        let writer = open::writer(path, sync)?;
        let count =
            std::thread::available_parallelism().map_or(4, |cores| cores.get().clamp(2, 16));
        let readers =
            (0..count).map(|_| open::reader(path, cache / 2 / count)).collect::<Result<_>>()?;
        let recent = Arc::new(Recent::new(cache / 2));
        let ended = Arc::clone(&recent);
        let writer = Writer::start(writer, open::merger(path)?, move || ended.end_transaction())?;
        let (claims, begun) = (Claims::default(), Begun::default());
        Ok(Self {
            path: path.to_owned(),
            readers: Readers::new(readers),
            writer,
            recent,
            claims,
            begun,
        })
    }

    /// Runs a transaction that may change what is found in a repository.
    async fn change<T, F>(&self, doing: &'static str, repository: &Name, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let (recent, name) = (Arc::clone(&self.recent), repository.clone());
        let work = move |db: &Connection| {
            recent.changing(&name);
            work(db)
        };
        self.writer.run(doing, work).await
    }

    /// Lets the file grow no further than to so many pages.
    #[cfg(test)]
    pub(crate) async fn limit_pages(&self, pages: i64) {
        let limit = move |db: &Connection| {
            Ok(db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))?)
        };
        self.writer.run("limit the file", limit).await.unwrap();
    }

    /// Runs a transaction that may change what is found in any repository.
    async fn change_all<T, F>(&self, doing: &'static str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    {
        let recent = Arc::clone(&self.recent);
        let work = move |db: &Connection| {
            recent.changing_all();
            work(db)
        };
        self.writer.run(doing, work).await
    }

    /// Runs a query that may take long, on a connection of its own.
    async fn scratch<T: Send + 'static>(
        &self,
        doing: &'static str,
        query: impl FnOnce(&Connection) -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        let path = self.path.clone();
        blocking::run(move || {
            let connection = open::scratch(&path)?;
            query(&connection).map_err(|failure| failure.into_error(doing))
        })
        .await
    }
}

#[async_trait]
impl Metadata for Sqlite {
    fn is_shared(&self) -> bool {
        false
    }

    async fn has_repository(&self, repository: &Name) -> Result<bool> {
        let recent = &self.recent;
        if recent.get(&recent.repositories, repository, "").is_some() {
            return Ok(true);
        }
        let (read, name) = (recent.moment(), repository.clone());
        let look = move |db: &_| lists::has_repository(db, &name);
        let exists = self.readers.run("look up a repository", look).await?;
        if exists {
            recent.repositories.insert(read, repository, "", ());
        }
        Ok(exists)
    }

    async fn catalog(&self, after: Option<&str>, limit: usize) -> Result<Page<Name>> {
        let after = after.map(str::to_owned);
        let read = move |db: &_| lists::catalog(db, after.as_deref(), limit);
        self.readers.run("list repositories", read).await
    }

    async fn blob_size(
        &self,
        repository: &Name,
        digest: &Digest,
        stale_before: i64,
    ) -> Result<Option<BlobSize>> {
        let recent = &self.recent;
        let told = |found| recent::blob_size(found, stale_before);
        if let Some(found) = recent.get(&recent.sizes, repository, digest.as_str()).map(told)
            && !found.stale
        {
            return Ok(Some(found));
        }
        // What was stale may have been renewed.
        let moment = recent.moment();
        let (name, wanted) = (repository.clone(), digest.clone());
        let read = move |db: &_| blobs::size(db, &name, &wanted);
        let found = self.readers.run("look up a blob", read).await?;
        if let Some(found) = found {
            recent.sizes.insert(moment, repository, digest.as_str(), found);
        }
        Ok(found.map(told))
    }

    async fn renew_blob(&self, repository: &Name, digest: &Digest, now: i64) -> Result<bool> {
        let (name, digest) = (repository.clone(), digest.clone());
        self.writer.run("renew a blob", move |db| blobs::renew(db, &name, &digest, now)).await
    }

    async fn blob(&self, repository: &Name, digest: &Digest) -> Result<Option<BlobRecord>> {
        let recent = &self.recent;
        if let Some(found) = recent.get(&recent.blobs, repository, digest.as_str()) {
            return Ok(Some(found));
        }
        let read = recent.moment();
        let (name, wanted) = (repository.clone(), digest.clone());
        let get = move |db: &_| blobs::get(db, &name, &wanted);
        let found = self.readers.run("look up a blob", get).await?;
        if let Some(found) = &found {
            recent.blobs.insert(read, repository, digest.as_str(), found.clone());
        }
        Ok(found)
    }

    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Name>> {
        let digest = digest.clone();
        let read = move |db: &_| lists::holders(db, &digest, limit);
        self.readers.run("list the holders of a blob", read).await
    }

    async fn commit_blob(&self, blob: NewBlob) -> Result<Stored> {
        if let Some(session) = &blob.session {
            self.begun.remove(&session.id);
        }
        self.writer.run("store a blob", move |db| blobs::commit(db, &blob)).await
    }

    async fn mount(&self, from: &Name, to: &Name, digest: &Digest, now: i64) -> Result<bool> {
        let (from, to, digest) = (from.clone(), to.clone(), digest.clone());
        self.writer.run("mount a blob", move |db| blobs::mount(db, &from, &to, &digest, now)).await
    }

    async fn delete_blob(
        &self,
        repository: &Name,
        digest: &Digest,
        delete_after: i64,
    ) -> Result<()> {
        let (name, digest) = (repository.clone(), digest.clone());
        let work = move |db: &_| blobs::delete(db, &name, &digest, delete_after);
        self.change("delete a blob", repository, work).await
    }

    async fn resolve(&self, repository: &Name, target: &Target) -> Result<Descriptor> {
        let recent = &self.recent;
        // A tag cannot be mistaken for a digest, which has a colon.
        let key = match target {
            Target::Digest(digest) | Target::Pinned(_, digest) => digest.as_str(),
            Target::Tag(tag) => tag.as_str(),
        };
        if let Some(found) = recent.get(&recent.manifests, repository, key) {
            return Ok(found);
        }
        let read = recent.moment();
        let (name, wanted) = (repository.clone(), target.clone());
        let resolve = move |db: &_| manifests::resolve(db, &name, &wanted);
        let found = self.readers.run("look up a manifest", resolve).await?;
        recent.manifests.insert(read, repository, key, found.clone());
        Ok(found)
    }

    async fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let digest = digest.clone();
        self.readers.run("read a manifest", move |db| manifests::bytes(db, &digest)).await
    }

    async fn manifest_part(
        &self,
        repository: &Name,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Option<Bytes>> {
        let (name, digest) = (repository.clone(), digest.clone());
        // Allocated here: what each of the threads for blocking work has allocated would be kept
        // for that thread when it is free again.
        let length = range.end.saturating_sub(range.start).min(PART);
        let buffer = Vec::with_capacity(length as usize);
        let read = move |db: &_| manifests::part(db, &name, &digest, range, buffer);
        self.readers.run("read a manifest", read).await
    }

    async fn put_manifest(&self, manifest: NewManifest) -> Result<()> {
        let repository = manifest.repository.clone();
        let put = move |db: &_| manifests::put(db, &manifest);
        self.change("store a manifest", &repository, put).await
    }

    async fn resolve_to_rely_on(
        &self,
        repository: &Name,
        digest: &Digest,
        stale_before: i64,
    ) -> Result<Resolved> {
        let descriptor = self.resolve(repository, &digest.clone().into()).await?;
        let recent = &self.recent;
        let held = recent.get(&recent.holds, repository, digest.as_str());
        if held.is_some_and(|held| !held.is_stale(stale_before)) {
            return Ok(Resolved { descriptor, stale: false });
        }
        // What was stale may have been renewed.
        let moment = recent.moment();
        let (name, wanted) = (repository.clone(), digest.clone());
        let read = move |db: &_| manifests::hold(db, &name, &wanted, stale_before);
        let held = self.readers.run("look up a manifest", read).await?;
        if let Some(held) = held {
            recent.holds.insert(moment, repository, digest.as_str(), held);
        }
        Ok(Resolved { descriptor, stale: held.is_none() })
    }

    async fn renew_manifest(&self, repository: &Name, digest: &Digest, now: i64) -> Result<bool> {
        let (name, digest) = (repository.clone(), digest.clone());
        let work = move |db: &_| manifests::renew(db, &name, &digest, now);
        self.writer.run("renew a manifest", work).await
    }

    async fn delete_manifest(&self, repository: &Name, digest: &Digest, now: i64) -> Result<()> {
        let (name, digest) = (repository.clone(), digest.clone());
        let work = move |db: &_| remove::delete(db, &name, &digest, now);
        self.change("delete a manifest", repository, work).await
    }

    async fn delete_tag(&self, repository: &Name, tag: &Tag, now: i64) -> Result<()> {
        let (name, tag) = (repository.clone(), tag.clone());
        let work = move |db: &_| manifests::delete_tag(db, &name, &tag, now);
        self.change("delete a tag", repository, work).await
    }

    async fn tags(
        &self,
        repository: &Name,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Tag>> {
        let (name, after) = (repository.clone(), after.map(str::to_owned));
        let read = move |db: &_| lists::tags(db, &name, after.as_deref(), limit);
        self.readers.run("list tags", read).await
    }

    async fn referrers(
        &self,
        repository: &Name,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Descriptor>> {
        let recent = &self.recent;
        // Quoted, so that two different questions never look the same.
        let key = format!("{subject} {limit} {after:?} {artifact_type:?}");
        if let Some(page) = recent.get(&recent.referrers, repository, &key) {
            return Ok(Page::clone(&page));
        }
        let moment = recent.moment();
        let wanted = lists::Wanted {
            repository: repository.clone(),
            subject: subject.clone(),
            artifact_type: artifact_type.map(str::to_owned),
        };
        let after = after.map(str::to_owned);
        let read = move |db: &_| lists::referrers(db, &wanted, after.as_deref(), limit);
        let page = self.readers.run("list referrers", read).await?;
        recent.referrers.insert(moment, repository, &key, Arc::new(page.clone()));
        Ok(page)
    }

    async fn begin_object(&self, key: &ObjectKey) -> Result<()> {
        let key = key.clone();
        self.writer.run("begin an object", move |db| sessions::begin_object(db, &key)).await
    }

    async fn note_object(&self, key: &ObjectKey, state: Bytes) -> Result<()> {
        let key = key.clone();
        self.writer.run("note an object", move |db| sessions::note_object(db, &key, &state)).await
    }

    async fn object_state(&self, key: &ObjectKey) -> Result<Option<Bytes>> {
        let key = key.clone();
        self.readers.run("look up an object", move |db| sessions::object_state(db, &key)).await
    }

    async fn condemn_object(&self, key: &ObjectKey) -> Result<bool> {
        let key = key.clone();
        self.writer.run("give up an object", move |db| sessions::condemn_object(db, &key)).await
    }

    async fn forget_objects(&self, keys: &[ObjectKey]) -> Result<()> {
        let keys = keys.to_vec();
        self.writer.run("forget objects", move |db| sessions::forget_objects(db, &keys)).await
    }

    async fn due_objects(&self, now: i64, limit: usize) -> Result<Vec<ObjectKey>> {
        let read = move |db: &_| sessions::due_objects(db, now, limit);
        self.readers.run("list objects to delete", read).await
    }

    async fn postpone_object(&self, key: &ObjectKey, until: i64) -> Result<()> {
        let key = key.clone();
        let work = move |db: &_| sessions::postpone_object(db, &key, until);
        self.writer.run("postpone a deletion", work).await
    }

    async fn stray_objects(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>> {
        let after = after.cloned();
        let read = move |db: &_| sessions::stray_objects(db, after.as_ref(), limit);
        self.readers.run("list pending objects", read).await
    }

    async fn held_by_uploads(&self) -> Result<Held> {
        self.readers.run("count uploads", sessions::held).await
    }

    async fn claim_session(&self, id: &SessionId) -> Result<Option<Claim>> {
        Ok(self.claims.claim(id))
    }

    fn session_begun(&self, id: &SessionId) {
        self.begun.insert(id);
    }

    async fn session(&self, repository: &Name, id: &SessionId) -> Result<SessionState> {
        if self.begun.contains(id) {
            return Ok(SessionState::Blank);
        }
        let (name, id) = (repository.clone(), id.clone());
        self.readers.run("look up an upload", move |db| sessions::get(db, &name, &id)).await
    }

    async fn record_session(&self, progress: Progress) -> Result<()> {
        self.begun.remove(&progress.session.id);
        self.writer.run("record an upload", move |db| sessions::record(db, &progress)).await
    }

    async fn close_session(&self, session: Claimed) -> Result<Option<ObjectKey>> {
        self.begun.remove(&session.id);
        self.writer.run("close an upload", move |db| sessions::close(db, &session, None)).await
    }

    async fn idle_sessions(&self, before: i64, limit: usize) -> Result<Vec<Claimed>> {
        self.readers.run("list idle uploads", move |db| sessions::idle(db, before, limit)).await
    }

    async fn forget_closed_sessions(&self, below: &SessionId, limit: usize) -> Result<usize> {
        let below = below.clone();
        let work = move |db: &_| sessions::forget_closed(db, &below, limit);
        self.writer.run("forget closed uploads", work).await
    }

    async fn collect_blobs(
        &self,
        before: i64,
        delete_after: i64,
        limit: usize,
    ) -> Result<CollectStep> {
        let recent = Arc::clone(&self.recent);
        let work = move |db: &_| {
            let step = collect::collect_blobs(db, before, delete_after, limit)?;
            if step.collected != Collected::default() {
                recent.changing_all();
            }
            Ok(step)
        };
        self.writer.run("collect blobs", work).await
    }

    async fn collect_manifests(&self, before: i64, now: i64, limit: usize) -> Result<CollectStep> {
        let recent = Arc::clone(&self.recent);
        let work = move |db: &_| {
            let step = collect::collect_manifests(db, before, now, limit)?;
            if step.collected != Collected::default() {
                recent.changing_all();
            }
            Ok(step)
        };
        self.writer.run("collect manifests", work).await
    }

    async fn finish_deletions(&self) -> Result<bool> {
        self.writer.run("finish a deletion", remove::finish_deletions).await
    }

    async fn preview_collection(&self, cuts: Cuts) -> Result<Collected> {
        self.scratch("preview a collection", move |db| preview::preview(db, &cuts)).await
    }

    async fn session_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32]> {
        self.writer.run("read the upload secret", move |db| sessions::secret(db, &fresh)).await
    }

    async fn check_database(&self) -> Result<Vec<String>> {
        self.scratch("check the database", check::database).await
    }

    async fn stored_blobs(&self, after: i64, limit: usize) -> Result<Vec<StoredBlob>> {
        self.readers.run("list blobs", move |db| stored::blobs(db, after, limit)).await
    }

    async fn check_links(
        &self,
        after: (i64, i64),
        last: i64,
        limit: usize,
    ) -> Result<CheckedLinks> {
        let look = move |db: &_| stored::links(db, after, last, limit);
        self.readers.run("look at the repositories of blobs", look).await
    }

    async fn stored_manifests(&self, after: i64, limit: usize) -> Result<Vec<StoredManifest>> {
        self.readers.run("list manifests", move |db| stored::manifests(db, after, limit)).await
    }

    async fn unknown_manifests(&self, after: i64, limit: usize) -> Result<Vec<UnknownManifest>> {
        let list = move |db: &_| stored::unknown_manifests(db, after, limit);
        self.readers.run("list manifests of unknown types", list).await
    }

    async fn last_ids(&self) -> Result<(i64, i64)> {
        self.readers.run("count what there is", check::last_ids).await
    }

    async fn unknown_objects(&self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>> {
        let keys = keys.to_vec();
        self.readers.run("look up objects", move |db| check::unknown_objects(db, keys)).await
    }

    async fn misfits(&self, kind: Misfit, after: i64, limit: usize) -> Result<Vec<(i64, String)>> {
        self.scratch("look for misfits", move |db| misfits::list(db, kind, after, limit)).await
    }

    async fn mend_misfit(&self, kind: Misfit, id: i64, delete_after: i64) -> Result<bool> {
        let work = move |db: &_| misfits::mend(db, kind, id, delete_after);
        self.change_all("mend a misfit", work).await
    }

    async fn mark_blob(&self, id: i64, now: i64) -> Result<bool> {
        self.change_all("mark a blob", move |db| misfits::mark_blob(db, id, now)).await
    }

    async fn mark_manifest(&self, id: i64, now: i64) -> Result<bool> {
        self.change_all("mark a manifest", move |db| misfits::mark_manifest(db, id, now)).await
    }

    async fn discard_blob(&self, blob: &StoredBlob, delete_after: i64) -> Result<bool> {
        let (id, content) = (blob.id, blob.content.clone());
        let work = move |db: &_| check::discard_blob(db, id, &content, delete_after);
        self.change_all("discard a damaged blob", work).await
    }

    async fn repair_references(&self, id: i64, manifest: &Manifest, now: i64) -> Result<bool> {
        let manifest = manifest.clone();
        let work = move |db: &_| manifests::record_again(db, id, &manifest, now);
        self.change_all("record references again", work).await
    }

    async fn discard_manifest(&self, id: i64, now: i64) -> Result<bool> {
        let work = move |db: &_| check::discard_manifest(db, id, now);
        self.change_all("discard a damaged manifest", work).await
    }

    async fn setting(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        self.readers.run("read a setting", move |db| check::setting(db, name)).await
    }

    async fn set_setting(&self, name: &'static str, value: Option<Vec<u8>>) -> Result<()> {
        let work = move |db: &_| check::set_setting(db, name, value.as_deref());
        self.writer.run("keep a setting", work).await
    }

    async fn back_up(&self, file: &Path) -> Result<()> {
        let (from, to) = (self.path.clone(), file.to_owned());
        blocking::run(move || open::copy(&from, &to)).await
    }
}
