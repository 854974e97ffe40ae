//! Metadata in PostgreSQL, which many replicas share.
//!
//! # Why concurrent transactions do no harm
//! All run at READ COMMITTED: each *statement* sees what was committed before it began, so whatever a transaction has read may
//! change under it, unless it has locked it. Three kinds of locks are taken, in this order.
//!
//! **The repository** (an advisory lock on its name, taken before anything is read). Who adds shares it: `commit_blob`, `mount`,
//! `put_manifest`, renewals. Who takes away is alone in it: `delete_blob`, `delete_manifest`, `delete_tag`, the collector's steps.
//! References are between rows of one repository, so each of these pairs is as if one had come after the other:
//!
//! | with | such as | outcome |
//! | --- | --- | --- |
//! | `put_manifest` × `delete_blob`, × `collect_blobs` | the blob goes while the manifest that references it comes | either the manifest is refused, or the blob stays |
//! | `put_manifest` × `collect_manifests` | an index lists a child that is being collected; a tag comes to what holds it | either the index is refused, or the child stays |
//! | `put_manifest` × `delete_manifest`, × `delete_tag` | a tag is set and removed | the later one's state, with its candidates |
//! | `mount`, `commit_blob` × `delete_blob`, × `collect_blobs` | linked again while it is taken out | linked afterwards, or removed afterwards |
//! | anything × the last content of a repository | the repository's row goes | nobody adds to a row that is going |
//!
//! An addition is alone, too, where two of them could miss each other: a manifest of whose
//! references one may come as a blob (× `commit_blob` of that), with a precondition (× any that
//! sets the tag), and one that comes again as another type.
//! Otherwise additions to one repository meet at unique keys (two equal blobs, manifests, tags): the second waits for
//! the first, and goes on with what it finds, or is run again. They take rows in one order, tags in theirs.
//!
//! **Blobs and manifests** (rows that repositories share). Who links one holds its row `FOR KEY SHARE` from before it is linked, and
//! the keys do that for what is linked. Who takes a link away locks the row against others who do (`FOR NO KEY
//! UPDATE`), so that of two who take away the last two links, the second sees that none is left; then, only if none is left,
//! against those who link it (`FOR UPDATE`), and looks again. So `commit_blob` in one repository × removal of the last link
//! in another: the blob is linked and stays, or is gone and is stored anew.
//!
//! **Objects and sessions** (rows of their own). `commit_blob` and `record_session` take a pending object only if it is not
//! condemned, and hold its row; `condemn_object` locks the row, and then looks for a session. A session is one row
//! whether it is open or closed, changed only where its version is the one that was claimed.
//!
//! The keys RESTRICT, so whatever this reasoning misses is an error and no loss. Transactions that the server ends for
//! a deadlock, a key or a serialization failure are run again, a bounded number of times.
//!
//! # What is not known
//! If the connection is lost during COMMIT, nobody knows whether it was done, and the caller gets
//! [`Unavailable`](oci_ref::ErrorKind::Unavailable). An object is freed after that only by way of `condemn_object`, which waits
//! for that transaction to end, and then sees what came of it.

mod blobs;
mod check;
mod collect;
mod engine;
mod existing;
mod failure;
mod held;
mod lease;
mod lists;
mod manifests;
mod migrate;
mod misfits;
mod open;
mod preview;
mod remove;
mod rows;
mod run;
mod sessions;
mod stored;
mod tls;
mod together;
mod url;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::FutureExt;
use oci_ref::{Error, Manifest, Page, Precondition, Result, Target};
use oci_spec_types::{Descriptor, Digest, Name, Tag};
use tokio::task::JoinHandle;

use self::existing::Existing;
use self::failure::{Failure, Outcome};
use self::lease::Lease;
use self::manifests::{Asked, Found};
use self::run::{Begin, Db, Runner};
use self::together::Together;
use super::{
    BlobRecord, BlobSize, CheckedLinks, Claim, Claimed, CollectStep, Collected, Cuts, Metadata,
    Misfit, NewBlob, NewManifest, Progress, Resolved, SessionState, Stored, StoredBlob,
    StoredManifest, UnknownManifest, refusals,
};
use crate::objects::ObjectKey;
use crate::upload::{Held, SessionId};

pub(crate) use self::url::Url;

/// How a database is used.
pub(crate) struct PostgresOptions {
    /// The most connections at a time.
    pub(crate) connections: usize,
    /// How long this process is taken for alive after it was last heard of.
    pub(crate) lease: Duration,
    /// Whether a commit is durable before it is acknowledged.
    pub(crate) sync: bool,
}

/// The metadata in a PostgreSQL database.
pub(crate) struct Postgres {
    runner: Runner,
    lease: Lease,
    existing: Existing,
    /// Look-ups of manifests.
    tags: Together<Asked, Option<Found>>,
    digests: Together<Asked, Option<Found>>,
    keeper: JoinHandle<()>,
}

impl Postgres {
    /// Connects to a database, and makes the tables in an empty one.
    pub(crate) async fn open(url: &Url, options: &PostgresOptions) -> Result<Self> {
        let settings = open::Settings { connections: options.connections, sync: options.sync };
        let runner = open::open(url, &settings).await?;
        let lease = Lease::take(runner.clone(), options.lease).await?;
        let keeper = tokio::spawn(lease.clone().keep());
        let (tags, digests) = (look_ups(&runner, true), look_ups(&runner, false));
        Ok(Self { runner, lease, existing: Existing::default(), tags, digests, keeper })
    }
}

async fn look_up(runner: &Runner, by_tag: bool, asked: &[Asked]) -> Result<Vec<Option<Found>>> {
    let query = |db: Arc<Db>| async move {
        match by_tag {
            true => manifests::by_tags(&db, asked).await,
            false => manifests::by_digests(&db, asked).await,
        }
    };
    runner.read("look up a manifest", query).await
}

fn look_ups(runner: &Runner, by_tag: bool) -> Together<Asked, Option<Found>> {
    let runner = runner.clone();
    Together::new(move |asked| {
        let runner = runner.clone();
        async move { look_up(&runner, by_tag, &asked).await.ok() }.boxed()
    })
}

impl Postgres {
    /// How a transaction begins that is alone with the repository of a manifest, if that is there.
    async fn alone_with(&self, doing: &'static str, link: i64) -> Result<Option<Begin>> {
        let query = |db: Arc<Db>| async move { check::holder(&db, link).await };
        let name = self.runner.read(doing, query).await?;
        Ok(name.as_ref().map(Begin::alone))
    }

    /// Looks up a manifest together with others.
    async fn find(&self, repository: &Name, target: &Target) -> Result<Found> {
        let (together, by_tag, name) = match target {
            Target::Tag(tag) => (&self.tags, true, tag.to_string()),
            Target::Digest(digest) | Target::Pinned(_, digest) => {
                (&self.digests, false, digest.to_string())
            }
        };
        let asked = (repository.clone(), name);
        let found = match together.get(asked.clone()).await {
            Some(found) => found,
            // Its own error tells what is wrong.
            None => look_up(&self.runner, by_tag, &[asked]).await?.into_iter().next().flatten(),
        };
        found.ok_or_else(|| refusals::unknown(repository, target))
    }

    async fn put(&self, new: &NewManifest, begin: Begin, alone: bool) -> Outcome<()> {
        let work = |db: Arc<Db>| async move { manifests::put(&db, new, alone).await };
        self.runner.try_write(begin, work).await
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

#[async_trait]
impl Metadata for Postgres {
    fn is_shared(&self) -> bool {
        true
    }

    async fn has_repository(&self, repository: &Name) -> Result<bool> {
        if self.existing.contains(repository) {
            return Ok(true);
        }
        let asked = Instant::now();
        let query = |db: Arc<Db>| async move { lists::has_repository(&db, repository).await };
        let exists = self.runner.read("look up a repository", query).await?;
        if exists {
            self.existing.insert(repository, asked);
        }
        Ok(exists)
    }

    async fn catalog(&self, after: Option<&str>, limit: usize) -> Result<Page<Name>> {
        let query = |db: Arc<Db>| async move { lists::catalog(&db, after, limit).await };
        self.runner.read("list repositories", query).await
    }

    async fn blob_size(
        &self,
        repository: &Name,
        digest: &Digest,
        stale_before: i64,
    ) -> Result<Option<BlobSize>> {
        let query =
            |db: Arc<Db>| async move { blobs::size(&db, repository, digest, stale_before).await };
        self.runner.read("look up a blob", query).await
    }

    async fn renew_blob(&self, repository: &Name, digest: &Digest, now: i64) -> Result<bool> {
        let work = |db: Arc<Db>| async move { blobs::renew(&db, repository, digest, now).await };
        self.runner.write("renew a blob", Begin::adding(repository), work).await
    }

    async fn blob(&self, repository: &Name, digest: &Digest) -> Result<Option<BlobRecord>> {
        let query = |db: Arc<Db>| async move { blobs::get_blob(&db, repository, digest).await };
        self.runner.read("look up a blob", query).await
    }

    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Name>> {
        let query = |db: Arc<Db>| async move { lists::holders(&db, digest, limit).await };
        self.runner.read("list the holders of a blob", query).await
    }

    async fn commit_blob(&self, blob: NewBlob) -> Result<Stored> {
        let new = &blob;
        let work = |db: Arc<Db>| async move { blobs::commit(&db, new, self.lease.holder()).await };
        let stored =
            self.runner.write("store a blob", Begin::adding(&blob.repository), work).await?;
        if let Some(session) = &blob.session {
            self.lease.ended(&session.id);
        }
        Ok(stored)
    }

    async fn mount(&self, from: &Name, to: &Name, digest: &Digest, now: i64) -> Result<bool> {
        let work = |db: Arc<Db>| async move { blobs::mount(&db, from, to, digest, now).await };
        self.runner.write("mount a blob", Begin::adding(to), work).await
    }

    async fn delete_blob(
        &self,
        repository: &Name,
        digest: &Digest,
        delete_after: i64,
    ) -> Result<()> {
        let work =
            |db: Arc<Db>| async move { blobs::delete(&db, repository, digest, delete_after).await };
        let deleted = self.runner.write("delete a blob", Begin::alone(repository), work).await;
        self.existing.clear();
        deleted
    }

    async fn resolve(&self, repository: &Name, target: &Target) -> Result<Descriptor> {
        Ok(self.find(repository, target).await?.descriptor)
    }

    async fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>> {
        let query = |db: Arc<Db>| async move { manifests::bytes(&db, digest).await };
        self.runner.read("read a manifest", query).await
    }

    async fn manifest_part(
        &self,
        repository: &Name,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Option<Bytes>> {
        let range = &range;
        let query =
            |db: Arc<Db>| async move { manifests::part(&db, repository, digest, range).await };
        self.runner.read("read a manifest", query).await
    }

    async fn resolve_to_rely_on(
        &self,
        repository: &Name,
        digest: &Digest,
        stale_before: i64,
    ) -> Result<Resolved> {
        let Found { descriptor, held } = self.find(repository, &digest.clone().into()).await?;
        let query = |db: Arc<Db>| async move {
            collect::is_stale(&db, repository, digest, stale_before).await
        };
        let stale = !held && self.runner.read("look up a manifest", query).await?;
        Ok(Resolved { descriptor, stale })
    }

    async fn renew_manifest(&self, repository: &Name, digest: &Digest, now: i64) -> Result<bool> {
        let work =
            |db: Arc<Db>| async move { manifests::renew(&db, repository, digest, now).await };
        self.runner.write("renew a manifest", Begin::adding(repository), work).await
    }

    async fn put_manifest(&self, manifest: NewManifest) -> Result<()> {
        let name = &manifest.repository;
        let stored = match manifest.when == Precondition::None {
            true => match self.put(&manifest, Begin::adding(name), false).await {
                Err(Failure::Alone) => self.put(&manifest, Begin::alone(name), true).await,
                stored => stored,
            },
            false => self.put(&manifest, Begin::alone(name), true).await,
        };
        stored.map_err(|failure| failure.into_error("store a manifest"))
    }

    async fn delete_manifest(&self, repository: &Name, digest: &Digest, now: i64) -> Result<()> {
        let work = |db: Arc<Db>| async move { remove::delete(&db, repository, digest, now).await };
        let deleted = self.runner.write("delete a manifest", Begin::alone(repository), work).await;
        self.existing.clear();
        deleted
    }

    async fn delete_tag(&self, repository: &Name, tag: &Tag, now: i64) -> Result<()> {
        let work =
            |db: Arc<Db>| async move { manifests::delete_tag(&db, repository, tag, now).await };
        self.runner.write("delete a tag", Begin::alone(repository), work).await
    }

    async fn tags(
        &self,
        repository: &Name,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Tag>> {
        let query = |db: Arc<Db>| async move { lists::tags(&db, repository, after, limit).await };
        self.runner.read("list tags", query).await
    }

    async fn referrers(
        &self,
        repository: &Name,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Descriptor>> {
        let query = |db: Arc<Db>| async move {
            lists::referrers(&db, repository, subject, artifact_type, after, limit).await
        };
        self.runner.read("list referrers", query).await
    }

    async fn begin_object(&self, key: &ObjectKey) -> Result<()> {
        let work = |db: Arc<Db>| async move {
            sessions::begin_object(&db, key, self.lease.holder()).await
        };
        self.runner.write("begin an object", Begin::default(), work).await
    }

    async fn condemn_object(&self, key: &ObjectKey) -> Result<bool> {
        let work = |db: Arc<Db>| async move { sessions::condemn_object(&db, key).await };
        self.runner.write("give up an object", Begin::default(), work).await
    }

    async fn forget_objects(&self, keys: &[ObjectKey]) -> Result<()> {
        let work = |db: Arc<Db>| async move { sessions::forget_objects(&db, keys).await };
        self.runner.write("forget objects", Begin::default(), work).await
    }

    async fn due_objects(&self, now: i64, limit: usize) -> Result<Vec<ObjectKey>> {
        let query = |db: Arc<Db>| async move { sessions::due_objects(&db, now, limit).await };
        self.runner.read("list condemned objects", query).await
    }

    async fn note_object(&self, key: &ObjectKey, state: Bytes) -> Result<()> {
        let state = state.as_ref();
        let work = |db: Arc<Db>| async move { sessions::note_object(&db, key, state).await };
        self.runner.write("note an object", Begin::default(), work).await
    }

    async fn object_state(&self, key: &ObjectKey) -> Result<Option<Bytes>> {
        let query = |db: Arc<Db>| async move { sessions::object_state(&db, key).await };
        self.runner.read("look up an object", query).await
    }

    async fn postpone_object(&self, key: &ObjectKey, until: i64) -> Result<()> {
        let work = |db: Arc<Db>| async move { sessions::postpone_object(&db, key, until).await };
        self.runner.write("postpone an object", Begin::default(), work).await
    }

    async fn stray_objects(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>> {
        let query = |db: Arc<Db>| async move { sessions::stray_objects(&db, after, limit).await };
        self.runner.read("list pending objects", query).await
    }

    async fn held_by_uploads(&self) -> Result<Held> {
        let query = |db: Arc<Db>| async move { sessions::held(&db).await };
        self.runner.read("count uploads", query).await
    }

    async fn claim_session(&self, id: &SessionId) -> Result<Option<Claim>> {
        self.lease.claim(id).await
    }

    /// Another replica may write to it next.
    fn session_begun(&self, _id: &SessionId) {}

    async fn session(&self, repository: &Name, id: &SessionId) -> Result<SessionState> {
        let query = |db: Arc<Db>| async move { sessions::get_session(&db, repository, id).await };
        self.runner.read("look up an upload", query).await
    }

    async fn record_session(&self, progress: Progress) -> Result<()> {
        let new = &progress;
        let work =
            |db: Arc<Db>| async move { sessions::record(&db, new, self.lease.holder()).await };
        self.runner.write("record an upload", Begin::default(), work).await?;
        self.lease.ended(&progress.session.id);
        Ok(())
    }

    async fn close_session(&self, session: Claimed) -> Result<Option<ObjectKey>> {
        let claimed = &session;
        let work = |db: Arc<Db>| async move {
            sessions::close(&db, claimed, None, self.lease.holder()).await
        };
        let object = self.runner.write("close an upload", Begin::default(), work).await?;
        self.lease.ended(&session.id);
        Ok(object)
    }

    async fn idle_sessions(&self, before: i64, limit: usize) -> Result<Vec<Claimed>> {
        let query = |db: Arc<Db>| async move { sessions::idle(&db, before, limit).await };
        self.runner.read("list idle uploads", query).await
    }

    async fn forget_closed_sessions(&self, below: &SessionId, limit: usize) -> Result<usize> {
        let work = |db: Arc<Db>| async move {
            sessions::forget_replicas(&db).await?;
            sessions::forget_closed(&db, below, limit).await
        };
        self.runner.write("forget closed uploads", Begin::default(), work).await
    }

    async fn collect_blobs(
        &self,
        before: i64,
        delete_after: i64,
        limit: usize,
    ) -> Result<CollectStep> {
        let work = |db: Arc<Db>| async move {
            collect::collect_blobs(&db, before, delete_after, limit).await
        };
        let step = self.runner.write("collect blobs", Begin::default(), work).await;
        self.existing.clear();
        step
    }

    async fn collect_manifests(&self, before: i64, now: i64, limit: usize) -> Result<CollectStep> {
        let work =
            |db: Arc<Db>| async move { collect::collect_manifests(&db, before, now, limit).await };
        let step = self.runner.write("collect manifests", Begin::default(), work).await;
        self.existing.clear();
        step
    }

    async fn finish_deletions(&self) -> Result<bool> {
        let work = |db: Arc<Db>| async move { remove::finish_deletions(&db).await };
        self.runner.write("finish a deletion", Begin::default(), work).await
    }

    async fn preview_collection(&self, cuts: Cuts) -> Result<Collected> {
        let cuts = &cuts;
        let work = |db: Arc<Db>| async move { preview::preview(&db, cuts).await };
        self.runner.write("preview a collection", Begin::long(), work).await
    }

    async fn session_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32]> {
        let fresh = &fresh;
        let work = |db: Arc<Db>| async move { sessions::secret(&db, fresh).await };
        self.runner.write("read the upload secret", Begin::default(), work).await
    }

    /// The keys. PostgreSQL has no check of its files that a client could ask for; its checksums tell when a page is read.
    async fn check_database(&self) -> Result<Vec<String>> {
        let query = |db: Arc<Db>| async move { check::database(&db).await };
        self.runner.write("check the database", Begin::long(), query).await
    }

    async fn stored_blobs(&self, after: i64, limit: usize) -> Result<Vec<StoredBlob>> {
        let query = |db: Arc<Db>| async move { stored::blobs(&db, after, limit).await };
        self.runner.read("list blobs", query).await
    }

    async fn check_links(
        &self,
        after: (i64, i64),
        last: i64,
        limit: usize,
    ) -> Result<CheckedLinks> {
        let query = |db: Arc<Db>| async move { stored::links(&db, after, last, limit).await };
        self.runner.read("look at the repositories of blobs", query).await
    }

    async fn stored_manifests(&self, after: i64, limit: usize) -> Result<Vec<StoredManifest>> {
        let query = |db: Arc<Db>| async move { stored::manifests(&db, after, limit).await };
        self.runner.write("list manifests", Begin::page(), query).await
    }

    async fn unknown_manifests(&self, after: i64, limit: usize) -> Result<Vec<UnknownManifest>> {
        let query = |db: Arc<Db>| async move { stored::unknown_manifests(&db, after, limit).await };
        self.runner.write("list manifests of unknown types", Begin::long(), query).await
    }

    async fn last_ids(&self) -> Result<(i64, i64)> {
        let query = |db: Arc<Db>| async move { check::last_ids(&db).await };
        self.runner.read("count content", query).await
    }

    async fn unknown_objects(&self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>> {
        let query = |db: Arc<Db>| async move { check::unknown_objects(&db, keys).await };
        self.runner.read("look up objects", query).await
    }

    async fn misfits(&self, kind: Misfit, after: i64, limit: usize) -> Result<Vec<(i64, String)>> {
        let query = |db: Arc<Db>| async move { misfits::list(&db, kind, after, limit).await };
        self.runner.write("look for misfits", Begin::long(), query).await
    }

    async fn mend_misfit(&self, kind: Misfit, id: i64, delete_after: i64) -> Result<bool> {
        let work = |db: Arc<Db>| async move { misfits::mend(&db, kind, id, delete_after).await };
        let mended = self.runner.write("mend a misfit", Begin::default(), work).await;
        self.existing.clear();
        mended
    }

    async fn mark_blob(&self, id: i64, now: i64) -> Result<bool> {
        let work = |db: Arc<Db>| async move { misfits::mark_blob(&db, id, now).await };
        self.runner.write("mark a blob", Begin::default(), work).await
    }

    async fn mark_manifest(&self, id: i64, now: i64) -> Result<bool> {
        let work = |db: Arc<Db>| async move { misfits::mark_manifest(&db, id, now).await };
        self.runner.write("mark a manifest", Begin::default(), work).await
    }

    async fn discard_blob(&self, blob: &StoredBlob, delete_after: i64) -> Result<bool> {
        let work = |db: Arc<Db>| async move { check::discard_blob(&db, blob, delete_after).await };
        self.runner.write("discard a damaged blob", Begin::default(), work).await
    }

    async fn repair_references(&self, id: i64, manifest: &Manifest, now: i64) -> Result<bool> {
        const DOING: &str = "repair references";
        let Some(begin) = self.alone_with(DOING, id).await? else { return Ok(false) };
        let work =
            |db: Arc<Db>| async move { check::repair_references(&db, id, manifest, now).await };
        self.runner.write(DOING, begin, work).await
    }

    async fn discard_manifest(&self, id: i64, now: i64) -> Result<bool> {
        const DOING: &str = "discard a damaged manifest";
        let Some(begin) = self.alone_with(DOING, id).await? else { return Ok(false) };
        let work = |db: Arc<Db>| async move { check::discard_manifest(&db, id, now).await };
        self.runner.write(DOING, begin, work).await
    }

    async fn setting(&self, name: &'static str) -> Result<Option<Vec<u8>>> {
        let query = |db: Arc<Db>| async move { check::setting(&db, name).await };
        self.runner.read("read a setting", query).await
    }

    async fn set_setting(&self, name: &'static str, value: Option<Vec<u8>>) -> Result<()> {
        let value = value.as_deref();
        let work = |db: Arc<Db>| async move { check::set_setting(&db, name, value).await };
        self.runner.write("keep a setting", Begin::default(), work).await
    }

    async fn back_up(&self, _: &Path) -> Result<()> {
        Err(Error::unsupported("a database server is backed up by its own means, such as pg_dump"))
    }
}
