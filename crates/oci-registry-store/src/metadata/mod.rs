//! Metadata: which repository has which content, and where its bytes lie.
//!
//! [`Metadata`] is no query interface. Each of its methods is one whole transaction, so that an implementation on another
//! database decides for itself how to make it atomic. When a write returns, it is durable.

mod columns;
mod misfits;
#[cfg(feature = "postgres")]
mod postgres;
mod recorded;
pub(crate) mod refusals;
mod sqlite;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use async_trait::async_trait;
use bytes::Bytes;
use oci_ref::{Manifest, Page, Precondition, Result, Target};
use oci_spec_types::{Descriptor, Digest, Name, Tag};

use crate::References;
use crate::objects::ObjectKey;
use crate::upload::{Held, SessionId};

pub(crate) use misfits::Misfit;
#[cfg(feature = "postgres")]
pub(crate) use postgres::{Postgres, PostgresOptions, Url as PostgresUrl};
pub(crate) use sqlite::Sqlite;

/// The most referrers that become candidates in one transaction, when their subject is deleted.
pub(crate) const REFERRERS: usize = 500;

/// Where a blob's bytes lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// In the database itself.
    Inline(Bytes),
    /// In an object.
    Object(ObjectKey),
}

/// A manifest that a repository has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) descriptor: Descriptor,
    /// It may be collected soon, so that it is to be renewed before anybody relies on its
    /// existence: it is no root, and nothing above it is one, if only candidates of later than
    /// `stale_before` count as roots beside tags. Also told of one that is not there any more,
    /// which whoever renews it learns.
    pub(crate) stale: bool,
}

/// A blob that a repository has.
#[derive(Clone, Debug)]
pub(crate) struct BlobRecord {
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// What a request about a blob's existence learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlobSize {
    pub(crate) size: u64,
    /// Nothing references it, and it may be collected soon: it is to be renewed before anybody relies on it.
    pub(crate) stale: bool,
}

/// A verified blob, to be named in a repository.
pub(crate) struct NewBlob {
    pub(crate) repository: Name,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    /// An object must be synced.
    pub(crate) content: Content,
    /// The session that ends with it, if it was ever given out.
    pub(crate) session: Option<Claimed>,
    /// In seconds since 1970: nothing that comes later may count it as garbage before its grace is over.
    pub(crate) now: i64,
}

/// What came of naming a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The content that was handed in is now the blob's.
    Taken,
    /// Equal content was here already and was linked. An object that was handed in is still pending.
    Known,
}

/// A verified manifest, to be stored in a repository under some tags.
pub(crate) struct NewManifest {
    pub(crate) repository: Name,
    pub(crate) manifest: Manifest,
    pub(crate) tags: Vec<Tag>,
    pub(crate) when: Precondition,
    /// What of its references must be there.
    pub(crate) references: References,
    /// In seconds since 1970.
    pub(crate) now: i64,
}

/// What was collected, or would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Collected {
    /// Manifests that were taken out of a repository.
    pub(crate) manifests: u64,
    /// Blobs that were taken out of a repository.
    pub(crate) links: u64,
    /// Blobs that no repository has any more.
    pub(crate) blobs: u64,
    /// The bytes of those blobs, and of manifests that no repository has any more.
    pub(crate) bytes: u64,
}

/// What one step of a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CollectStep {
    pub(crate) collected: Collected,
    /// Whether there may be more to do.
    pub(crate) more: bool,
}

/// From when on something counts as garbage. All in seconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cuts {
    pub(crate) now: i64,
    /// Unreferenced blobs go if they have been candidates since this or longer.
    pub(crate) blobs: i64,
    /// Untagged manifests go if they have been candidates since this or longer; `None` keeps them all.
    pub(crate) manifests: Option<i64>,
}

/// An upload session as it is recorded.
#[derive(Debug)]
pub(crate) struct SessionRecord {
    /// Counts the changes of the record: the fencing number. Who writes must name the version that it has claimed.
    pub(crate) version: i64,
    pub(crate) offset: u64,
    /// The saved state of the hash over the first `offset` bytes.
    pub(crate) hash_state: Vec<u8>,
    pub(crate) content: Content,
    /// What the object store needs to go on with the object.
    pub(crate) state: Bytes,
    /// When it was last written, in seconds since 1970.
    pub(crate) touched: i64,
}

/// What is known of a session.
#[derive(Debug)]
pub(crate) enum SessionState {
    /// Nothing has been recorded.
    Blank,
    /// It has content.
    Open(SessionRecord),
    /// It was cancelled, or completed with this blob.
    Closed(Option<Digest>),
}

/// A session that the caller has claimed, and the version of its record, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) id: SessionId,
    pub(crate) version: Option<i64>,
}

/// The right to write to a session, until it is dropped.
pub(crate) struct Claim {
    inherited: bool,
    release: Box<dyn Release>,
}

/// What gives a claim back when it is dropped.
#[async_trait]
pub(crate) trait Release: Send + Sync {
    /// Gives it back at once if it can, with nothing recorded.
    async fn now(&self) {}
}

impl Claim {
    /// A claim that ends when `release` is dropped.
    pub(crate) fn new(inherited: bool, release: Box<dyn Release>) -> Self {
        Self { inherited, release }
    }

    /// Whether somebody had the claim before and did not give it back. They may be writing still, however long they have not
    /// been heard of: what they write to must not be written to.
    pub(crate) fn inherited(&self) -> bool {
        self.inherited
    }

    /// Ends it with nothing recorded. Others can claim the session when this returns, unless the database cannot be reached.
    pub(crate) async fn give_back(self) {
        self.release.now().await;
    }
}

/// A state of a session that is to be recorded.
pub(crate) struct Progress {
    pub(crate) session: Claimed,
    pub(crate) repository: Name,
    pub(crate) offset: u64,
    pub(crate) hash_state: Vec<u8>,
    /// An object must be pending and synced.
    pub(crate) content: Content,
    /// What the object store needs to go on with the object.
    pub(crate) state: Bytes,
    /// In seconds since 1970.
    pub(crate) now: i64,
}

/// A blob as it is stored, whoever has it.
#[derive(Debug)]
pub(crate) struct StoredBlob {
    /// Its place in the order of checking.
    pub(crate) id: i64,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// Some links of blobs to repositories that were looked at.
#[derive(Debug, Default)]
pub(crate) struct CheckedLinks {
    /// Those of forgotten blobs, in order: nothing in the repository references them, and they are
    /// no candidates there, so that no collector would look at them.
    pub(crate) forgotten: Vec<ForgottenLink>,
    /// The last link, if there may be more after it: the ids of its blob and its repository.
    pub(crate) next: Option<(i64, i64)>,
}

/// A blob that is forgotten in a repository.
#[derive(Debug)]
pub(crate) struct ForgottenLink {
    /// The blob's place in the order of checking.
    pub(crate) blob: i64,
    pub(crate) digest: Digest,
    pub(crate) repository: Name,
}

/// A manifest as a repository has it.
#[derive(Debug)]
pub(crate) struct StoredManifest {
    /// Its place in the order of checking.
    pub(crate) id: i64,
    pub(crate) repository: Name,
    /// What the database says that it is.
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
    /// Some of its tags.
    pub(crate) tags: Vec<Tag>,
    pub(crate) recorded: Recorded,
    /// It has no tag, and neither it nor anything above it is a candidate or has one, so that no collector would look at it.
    pub(crate) forgotten: bool,
}

/// A manifest of a repository, of a type that is not known.
#[derive(Debug)]
pub(crate) struct UnknownManifest {
    /// Its place in the order of checking.
    pub(crate) id: i64,
    /// Its descriptor, as the database has it.
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Bytes,
}

/// The references of a manifest that are recorded.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// Digests of blobs, whether or not they are there.
    pub(crate) blobs: BTreeSet<String>,
    /// Digests of blobs that are recorded as missing although they are there, or in both ways.
    pub(crate) misplaced: BTreeSet<String>,
    /// Digests of what is listed, which may be manifests or blobs, whether or not they are there.
    pub(crate) children: BTreeSet<String>,
    /// Digests of those that are there as blobs, and are not recorded as such, so that nothing
    /// holds them.
    pub(crate) unheld: BTreeSet<String>,
    /// The digest of the subject, and the descriptor among its referrers.
    pub(crate) referrer: Option<(String, Descriptor)>,
}

/// The transactions of the engine.
///
/// Names are looked up within a repository: what a repository is not linked to does not exist for it, wherever else it may
/// be. A repository exists while it has content.
///
/// # Garbage
/// What a repository has may be a *candidate* since some time, in seconds since 1970.
/// - A blob is a candidate from when it is linked, and from when a manifest that references it goes; once more linked or
///   renewed, from then on. Whether it is garbage depends on the references alone: to be a candidate only means that a collector
///   looks at it. A collector that finds it referenced makes it no candidate any more; nothing else does, so that
///   pushes stay cheap.
/// - A manifest is a candidate from when it is pushed without a tag, from when a tag leaves it, and from when a parent or its
///   subject goes. A push with a tag ends that; so does a collector that finds it held.
/// - A manifest is *held* if it, or something above it, is a root: has a tag, or is a candidate of later than the cut. Above are
///   the indexes of the same repository that list it and its subject, if they are there, and what is above those. An
///   index can list its own subject, so there are circles.
///
/// So that concurrent transactions cannot each count on what the other removes, candidates are marked whether or not
/// something else still references them.
#[async_trait]
pub(crate) trait Metadata: Send + Sync + 'static {
    /// Whether other processes can change it, too, so that what was read once may not be true any more.
    fn is_shared(&self) -> bool;

    /// Whether a repository has any content.
    async fn has_repository(&self, repository: &Name) -> Result<bool>;

    /// At most `limit` repositories in lexical order.
    async fn catalog(&self, after: Option<&str>, limit: usize) -> Result<Page<Name>>;

    /// The size of a blob. It is stale if nothing references it and it has been a candidate since before `stale_before`.
    async fn blob_size(
        &self,
        repository: &Name,
        digest: &Digest,
        stale_before: i64,
    ) -> Result<Option<BlobSize>>;

    /// Makes a candidate one since `now`, if it was one since earlier. `false` if the repository has no such blob (any more).
    async fn renew_blob(&self, repository: &Name, digest: &Digest, now: i64) -> Result<bool>;

    /// A blob's size and where its bytes lie.
    async fn blob(&self, repository: &Name, digest: &Digest) -> Result<Option<BlobRecord>>;

    /// At most `limit` repositories that have a blob, in no order.
    async fn holders(&self, digest: &Digest, limit: usize) -> Result<Vec<Name>>;

    /// Names a blob in a repository, creating the repository if need be, and ends the session that brought it.
    async fn commit_blob(&self, blob: NewBlob) -> Result<Stored>;

    /// Links a blob of the repository `from`, if it is there, to `to`.
    async fn mount(&self, from: &Name, to: &Name, digest: &Digest, now: i64) -> Result<bool>;

    /// Removes a blob from a repository. Refused (`DENIED`) while one of the repository's manifests references it. A blob that no
    /// repository has any more goes, and its object is condemned: it may be deleted after `delete_after`.
    async fn delete_blob(
        &self,
        repository: &Name,
        digest: &Digest,
        delete_after: i64,
    ) -> Result<()>;

    /// The descriptor of a manifest, by a tag or digest that the repository has.
    async fn resolve(&self, repository: &Name, target: &Target) -> Result<Descriptor>;

    /// The same by a digest, for somebody who relies on it from then on.
    async fn resolve_to_rely_on(
        &self,
        repository: &Name,
        digest: &Digest,
        stale_before: i64,
    ) -> Result<Resolved>;

    /// The bytes of a manifest that has been resolved.
    async fn manifest_bytes(&self, digest: &Digest) -> Result<Option<Bytes>>;

    /// The bytes of a part of a manifest, if the repository has it; fewer if it ends before.
    async fn manifest_part(
        &self,
        repository: &Name,
        digest: &Digest,
        range: Range<u64>,
    ) -> Result<Option<Bytes>>;

    /// Makes a manifest a candidate since `now`. `false` if the repository has no such manifest (any more).
    async fn renew_manifest(&self, repository: &Name, digest: &Digest, now: i64) -> Result<bool>;

    /// Stores a manifest with its references, its entry among its subject's referrers, and its tags.
    async fn put_manifest(&self, manifest: NewManifest) -> Result<()>;

    /// Removes a manifest, its tags and its entry among referrers. What it held is a candidate since `now`. Its bytes go with the
    /// last repository that has it.
    async fn delete_manifest(&self, repository: &Name, digest: &Digest, now: i64) -> Result<()>;

    /// Removes a tag.
    async fn delete_tag(&self, repository: &Name, tag: &Tag, now: i64) -> Result<()>;

    /// At most `limit` tags in lexical order.
    async fn tags(&self, repository: &Name, after: Option<&str>, limit: usize)
    -> Result<Page<Tag>>;

    /// At most `limit` referrers in the order of their digests.
    async fn referrers(
        &self,
        repository: &Name,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Descriptor>>;

    /// Notes that an object is about to be written.
    async fn begin_object(&self, key: &ObjectKey) -> Result<()>;

    /// Notes how a pending object can be deleted, or gone on with.
    async fn note_object(&self, key: &ObjectKey, state: Bytes) -> Result<()>;

    /// What was noted last of a pending object.
    async fn object_state(&self, key: &ObjectKey) -> Result<Option<Bytes>>;

    /// Makes sure that an object, which never was a blob's, is pending and will never be anything else, so that it may be deleted
    /// at once. `false` if a blob or a session owns it, or nobody knows it.
    async fn condemn_object(&self, key: &ObjectKey) -> Result<bool>;

    /// Forgets condemned objects, which have been deleted.
    async fn forget_objects(&self, keys: &[ObjectKey]) -> Result<()>;

    /// At most `limit` condemned objects whose time has come, those first whose time came first.
    async fn due_objects(&self, now: i64, limit: usize) -> Result<Vec<ObjectKey>>;

    /// Lets a condemned object, which could not be deleted, be due again at `until`.
    async fn postpone_object(&self, key: &ObjectKey, until: i64) -> Result<()>;

    /// At most `limit` pending objects that are not condemned, that no session owns, and whose writers have ended, in the order of
    /// their keys. Where nobody else can be writing, all of them may be given: it is asked when nothing is written yet.
    async fn stray_objects(
        &self,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ObjectKey>>;

    /// The uploads of which something is recorded, and their bytes.
    async fn held_by_uploads(&self) -> Result<Held>;

    /// Claims a session. `None` if somebody else is writing to it. The claim ends when it is dropped, or when the session is
    /// recorded or closed.
    async fn claim_session(&self, id: &SessionId) -> Result<Option<Claim>>;

    /// Tells that a session has just been named, so that nothing can have been recorded of it yet.
    fn session_begun(&self, id: &SessionId);

    /// What is recorded of a session.
    async fn session(&self, repository: &Name, id: &SessionId) -> Result<SessionState>;

    /// Records how far a session is. Fails if somebody else has written to it since it was claimed.
    async fn record_session(&self, progress: Progress) -> Result<()>;

    /// Ends a session without a blob, and gives the object that it owned, which is still pending.
    async fn close_session(&self, session: Claimed) -> Result<Option<ObjectKey>>;

    /// At most `limit` sessions that were last written before `before`, the oldest first, each with its version.
    async fn idle_sessions(&self, before: i64, limit: usize) -> Result<Vec<Claimed>>;

    /// Forgets at most `limit` closed sessions with smaller ids, and tells how many.
    async fn forget_closed_sessions(&self, below: &SessionId, limit: usize) -> Result<usize>;

    /// One step of collecting blobs: looks at no more than `limit` candidates since `before` or longer, takes those out of their
    /// repository that none of its manifests references, and deletes blobs that no repository has any more; their objects
    /// may be deleted after `delete_after`.
    async fn collect_blobs(
        &self,
        before: i64,
        delete_after: i64,
        limit: usize,
    ) -> Result<CollectStep>;

    /// One step of collecting untagged manifests: looks at candidates since `before` or longer, and deletes those that nothing
    /// holds, together with what is above them. Both end at about `limit`. Blobs become candidates since `now`, unless they have
    /// been only since later; what was below, since when the manifest above was one, so that whole trees go.
    async fn collect_manifests(&self, before: i64, now: i64, limit: usize) -> Result<CollectStep>;

    /// Goes on with the deletion of a subject that had more than [`REFERRERS`] referrers: the next
    /// so many become candidates, as those have that the deletion itself came to. `false` if there
    /// was nothing to go on with.
    async fn finish_deletions(&self) -> Result<bool>;

    /// What a whole collection would do now, exactly: manifests first, then blobs. Changes nothing, and holds nobody up.
    async fn preview_collection(&self, cuts: Cuts) -> Result<Collected>;

    /// The secret with which session tokens are signed: the one that is kept, or else `fresh`, which is kept from now on.
    async fn session_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32]>;

    /// What is wrong with the database itself, in words; nothing if it is sound. Holds nobody up.
    async fn check_database(&self) -> Result<Vec<String>>;

    /// At most `limit` blobs with greater ids, in the order of their ids. Fewer, if those in the
    /// database are large.
    async fn stored_blobs(&self, after: i64, limit: usize) -> Result<Vec<StoredBlob>>;

    /// Looks at no more than `limit` links after one, of blobs with ids up to `last`, in the order
    /// of the ids of blobs and then of repositories.
    async fn check_links(&self, after: (i64, i64), last: i64, limit: usize)
    -> Result<CheckedLinks>;

    /// At most `limit` manifests with greater ids, in the order of their ids. Fewer, if they are large.
    async fn stored_manifests(&self, after: i64, limit: usize) -> Result<Vec<StoredManifest>>;

    /// At most `limit` manifests with greater ids, in the order of their ids, of those whose types
    /// were not known when there were references only of known types. Fewer, if they are large.
    async fn unknown_manifests(&self, after: i64, limit: usize) -> Result<Vec<UnknownManifest>>;

    /// The greatest ids of blobs and of manifests.
    async fn last_ids(&self) -> Result<(i64, i64)>;

    /// Those of some objects that are no blob's and not pending.
    async fn unknown_objects(&self, keys: &[ObjectKey]) -> Result<Vec<ObjectKey>>;

    /// At most `limit` misfits with greater ids, in the order of their ids: each with its id, and its digest or name.
    async fn misfits(&self, kind: Misfit, after: i64, limit: usize) -> Result<Vec<(i64, String)>>;

    /// Mends a misfit. The object of a blob that goes may be deleted after `delete_after`. `false` if it is none any more.
    async fn mend_misfit(&self, kind: Misfit, id: i64, delete_after: i64) -> Result<bool>;

    /// Makes a blob a candidate since `now` wherever it is forgotten. `false` if it is not (any more).
    async fn mark_blob(&self, id: i64, now: i64) -> Result<bool>;

    /// Makes a manifest a candidate since `now`, if it is none. `false` if it is one, or is not there any more.
    async fn mark_manifest(&self, id: i64, now: i64) -> Result<bool>;

    /// Takes a damaged blob out of all repositories, so that it has to be pushed again. Manifests that reference it keep that
    /// reference, as one that is missing. `false` if it is not stored there any more.
    async fn discard_blob(&self, blob: &StoredBlob, delete_after: i64) -> Result<bool>;

    /// Records the references of a manifest anew. `false` if it is not there any more.
    async fn repair_references(&self, id: i64, manifest: &Manifest, now: i64) -> Result<bool>;

    /// Takes a damaged manifest out of its repository. `false` if it is not there any more, or has a tag.
    async fn discard_manifest(&self, id: i64, now: i64) -> Result<bool>;

    /// What is kept under a name.
    async fn setting(&self, name: &'static str) -> Result<Option<Vec<u8>>>;

    /// Keeps something under a name, or nothing any more.
    async fn set_setting(&self, name: &'static str, value: Option<Vec<u8>>) -> Result<()>;

    /// Writes a copy of one state of the database to a file that is not there, without uploads, what is pending, and settings.
    /// Holds nobody up. A shared one cannot be written so.
    async fn back_up(&self, file: &Path) -> Result<()>;
}
