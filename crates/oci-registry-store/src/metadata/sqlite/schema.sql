-- Version 6. A change of this file is a new version with its own migration; `migrations/` has those
-- from older versions.
--
-- References restrict: nothing that is referenced can be removed, and nothing is ever removed by cascade.

CREATE TABLE setting (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE repository (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Objects that may have bytes in the object store and that no blob owns (yet, or any more).
CREATE TABLE pending_object (
    key          TEXT PRIMARY KEY,
    -- Condemned, if it is set: it cannot become a blob any more, and may be deleted from then on (in seconds since 1970).
    delete_after INTEGER,
    -- What the object store needs to go on with an object that is not finished, or to delete it.
    state        BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX pending_object_by_time ON pending_object (delete_after) WHERE delete_after IS NOT NULL;

-- Equal blobs are stored once, whoever has them.
CREATE TABLE blob (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    size   INTEGER NOT NULL CHECK (size >= 0),
    object TEXT UNIQUE,
    -- Last, so that reading the rest of a row does not read it.
    data   BLOB,
    CHECK ((object IS NULL) <> (data IS NULL))
) STRICT;

CREATE TABLE repository_blob (
    repository INTEGER NOT NULL REFERENCES repository ON DELETE RESTRICT,
    blob       INTEGER NOT NULL REFERENCES blob ON DELETE RESTRICT,
    -- Since when a collector should look at it (in seconds since 1970). Never NULL while nothing references it.
    candidate_since INTEGER,
    PRIMARY KEY (repository, blob)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blob_by_blob ON repository_blob (blob);
CREATE INDEX repository_blob_candidate ON repository_blob (candidate_since) WHERE candidate_since IS NOT NULL;

CREATE TABLE manifest (
    id     INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    size   INTEGER NOT NULL,
    data   BLOB NOT NULL
) STRICT;

-- The same bytes can be pushed as different media types, so what they mean belongs to the repository.
CREATE TABLE repository_manifest (
    id            INTEGER PRIMARY KEY,
    repository    INTEGER NOT NULL REFERENCES repository ON DELETE RESTRICT,
    manifest      INTEGER NOT NULL REFERENCES manifest ON DELETE RESTRICT,
    media_type    TEXT NOT NULL,
    artifact_type TEXT,
    -- Since when a collector of untagged manifests should look at it. Never NULL while nothing holds it.
    candidate_since INTEGER,
    UNIQUE (repository, manifest)
) STRICT;
CREATE INDEX repository_manifest_by_manifest ON repository_manifest (manifest);
CREATE INDEX repository_manifest_candidate ON repository_manifest (candidate_since)
    WHERE candidate_since IS NOT NULL;

-- A blob that a manifest references cannot leave the manifest's repository.
CREATE TABLE manifest_blob (
    parent     INTEGER NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    repository INTEGER NOT NULL,
    blob       INTEGER NOT NULL,
    PRIMARY KEY (parent, blob),
    FOREIGN KEY (repository, blob) REFERENCES repository_blob ON DELETE RESTRICT
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_blob_by_blob ON manifest_blob (repository, blob);

-- Blobs that were referenced when they were not there. Once one comes, it is referenced as any other.
CREATE TABLE missing_blob (
    parent     INTEGER NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    repository INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    PRIMARY KEY (parent, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX missing_blob_by_digest ON missing_blob (repository, digest);

-- What an index lists, and what manifests of unknown types reference: manifests or blobs. By digest
-- and without a key: they may be missing, and manifests may be deleted before their parents. Those
-- that are blobs here are in manifest_blob, too.
CREATE TABLE manifest_child (
    parent     INTEGER NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    repository INTEGER NOT NULL,
    child      TEXT NOT NULL,
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_child_by_child ON manifest_child (repository, child);

CREATE TABLE tag (
    repository INTEGER NOT NULL REFERENCES repository ON DELETE RESTRICT,
    name       TEXT NOT NULL,
    manifest   INTEGER NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    PRIMARY KEY (repository, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_by_manifest ON tag (manifest);

-- The subject need not be here.
CREATE TABLE referrer (
    repository    INTEGER NOT NULL REFERENCES repository ON DELETE RESTRICT,
    subject       TEXT NOT NULL,
    digest        TEXT NOT NULL,
    artifact_type TEXT,
    manifest      INTEGER NOT NULL UNIQUE REFERENCES repository_manifest ON DELETE RESTRICT,
    descriptor    TEXT NOT NULL,
    PRIMARY KEY (repository, subject, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX referrer_by_type ON referrer (repository, subject, artifact_type, digest);

-- Subjects that were deleted, and had so many referrers that they become candidates in steps: since
-- `since`, and up to the digest `marked` so far.
CREATE TABLE deleted_subject (
    repository INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    since      INTEGER NOT NULL,
    marked     TEXT NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;

-- Suspended uploads that have content. The id begins with the time of its making.
CREATE TABLE session (
    id         TEXT PRIMARY KEY,
    -- By name: an upload does not make a repository exist.
    repository TEXT NOT NULL,
    version    INTEGER NOT NULL,
    offset     INTEGER NOT NULL CHECK (offset >= 0),
    hash_state BLOB NOT NULL,
    touched    INTEGER NOT NULL,
    object     TEXT UNIQUE REFERENCES pending_object ON DELETE RESTRICT,
    data       BLOB,
    CHECK ((object IS NULL) <> (data IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX session_by_touched ON session (touched);

-- Sessions that were completed or cancelled, as long as their tokens could still begin them anew.
CREATE TABLE closed_session (
    id     TEXT PRIMARY KEY,
    -- The blob that came of it, if any.
    digest TEXT
) STRICT, WITHOUT ROWID;
