-- Version 2. A change of this file is a new version with its own migration; `migrations/` has those
-- from older versions.
--
-- As for SQLite, references restrict: nothing that is referenced can be removed, and nothing is ever removed by cascade.
-- Names compare by their bytes, whatever the database was made with.

CREATE TABLE setting (
    name  text COLLATE "C" PRIMARY KEY,
    value bytea NOT NULL
);

-- Who uses this database: alive as long as the lease is renewed.
CREATE TABLE replica (
    id    text COLLATE "C" PRIMARY KEY,
    lease interval NOT NULL,
    until timestamptz NOT NULL
);

CREATE TABLE repository (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE
);

-- Objects that may have bytes in the object store and that no blob owns (yet, or any more).
CREATE TABLE pending_object (
    key          text COLLATE "C" PRIMARY KEY,
    -- The replica that writes it, or wrote it last.
    writer       text COLLATE "C",
    -- Condemned, if it is set: it cannot become a blob any more, and may be deleted from then on (in seconds since 1970).
    delete_after bigint,
    -- What the object store needs to go on with it, or to delete what there is of it.
    state        bytea,
    CHECK (writer IS NOT NULL OR delete_after IS NOT NULL)
);
CREATE INDEX pending_object_by_time ON pending_object (delete_after) WHERE delete_after IS NOT NULL;

-- Equal blobs are stored once, whoever has them.
CREATE TABLE blob (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest text COLLATE "C" NOT NULL UNIQUE,
    size   bigint NOT NULL CHECK (size >= 0),
    object text COLLATE "C" UNIQUE,
    data   bytea,
    CHECK ((object IS NULL) <> (data IS NULL)),
    CHECK (data IS NULL OR octet_length(data) = size)
);

CREATE TABLE repository_blob (
    repository bigint NOT NULL REFERENCES repository ON DELETE RESTRICT,
    blob       bigint NOT NULL REFERENCES blob ON DELETE RESTRICT,
    -- Since when a collector should look at it (in seconds since 1970). Never NULL while nothing references it.
    candidate_since bigint,
    PRIMARY KEY (repository, blob)
);
CREATE INDEX repository_blob_by_blob ON repository_blob (blob);
CREATE INDEX repository_blob_candidate ON repository_blob (candidate_since)
    WHERE candidate_since IS NOT NULL;

CREATE TABLE manifest (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    digest text COLLATE "C" NOT NULL UNIQUE,
    size   bigint NOT NULL,
    data   bytea NOT NULL,
    CHECK (octet_length(data) = size)
);

-- The same bytes can be pushed as different media types, so what they mean belongs to the repository.
CREATE TABLE repository_manifest (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    repository    bigint NOT NULL REFERENCES repository ON DELETE RESTRICT,
    manifest      bigint NOT NULL REFERENCES manifest ON DELETE RESTRICT,
    media_type    text NOT NULL,
    artifact_type text,
    -- Since when a collector of untagged manifests should look at it. Never NULL while nothing holds it.
    candidate_since bigint,
    UNIQUE (repository, manifest)
);
CREATE INDEX repository_manifest_by_manifest ON repository_manifest (manifest);
CREATE INDEX repository_manifest_candidate ON repository_manifest (candidate_since)
    WHERE candidate_since IS NOT NULL;

-- A blob that a manifest references cannot leave the manifest's repository.
CREATE TABLE manifest_blob (
    parent     bigint NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    repository bigint NOT NULL,
    blob       bigint NOT NULL,
    PRIMARY KEY (parent, blob),
    FOREIGN KEY (repository, blob) REFERENCES repository_blob ON DELETE RESTRICT
);
CREATE INDEX manifest_blob_by_blob ON manifest_blob (repository, blob);

-- Blobs that were referenced when they were not there. Once one comes, it is referenced as any other.
CREATE TABLE missing_blob (
    parent     bigint NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    repository bigint NOT NULL,
    digest     text COLLATE "C" NOT NULL,
    PRIMARY KEY (parent, digest)
);
CREATE INDEX missing_blob_by_digest ON missing_blob (repository, digest);

-- What an index lists, and what manifests of unknown types reference: manifests or blobs. By digest
-- and without a key: they may be missing, and manifests may be deleted before their parents. Those
-- that are blobs here are in manifest_blob, too.
CREATE TABLE manifest_child (
    parent     bigint NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    repository bigint NOT NULL,
    child      text COLLATE "C" NOT NULL,
    PRIMARY KEY (parent, child)
);
CREATE INDEX manifest_child_by_child ON manifest_child (repository, child);

CREATE TABLE tag (
    repository bigint NOT NULL REFERENCES repository ON DELETE RESTRICT,
    name       text COLLATE "C" NOT NULL,
    manifest   bigint NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    PRIMARY KEY (repository, name)
);
CREATE INDEX tag_by_manifest ON tag (manifest);

-- The subject need not be here.
CREATE TABLE referrer (
    repository    bigint NOT NULL REFERENCES repository ON DELETE RESTRICT,
    subject       text COLLATE "C" NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    artifact_type text COLLATE "C",
    manifest      bigint NOT NULL UNIQUE REFERENCES repository_manifest ON DELETE RESTRICT,
    descriptor    text NOT NULL,
    PRIMARY KEY (repository, subject, digest)
);
-- A type can be longer than an index entry may be.
CREATE INDEX referrer_by_type ON referrer (repository, subject, md5(artifact_type), digest);

-- Suspended uploads that have content, and uploads that were completed or cancelled, as long as their tokens could still
-- begin them anew. In one table, so that one key keeps a session from being both. The id begins with the time of its making.
CREATE TABLE session (
    id         text COLLATE "C" PRIMARY KEY,
    closed     boolean NOT NULL DEFAULT false,
    -- By name: an upload does not make a repository exist.
    repository text,
    version    bigint,
    "offset"   bigint CHECK ("offset" >= 0),
    hash_state bytea,
    touched    bigint,
    object     text COLLATE "C" UNIQUE REFERENCES pending_object ON DELETE RESTRICT,
    data       bytea,
    -- The blob that came of it, if any.
    digest     text COLLATE "C" CHECK (closed OR digest IS NULL),
    CHECK (CASE WHEN closed
        THEN num_nonnulls(repository, version, "offset", hash_state, touched, object, data) = 0
        ELSE num_nulls(repository, version, "offset", hash_state, touched) = 0 AND num_nonnulls(object, data) = 1
    END)
);
CREATE INDEX session_by_touched ON session (touched) WHERE NOT closed;
CREATE INDEX session_closed ON session (id) WHERE closed;

-- Sessions that somebody is writing to.
CREATE TABLE claim (
    session text COLLATE "C" PRIMARY KEY,
    holder  text COLLATE "C" NOT NULL,
    -- How often it was taken from a holder that did not give it back.
    taken   integer NOT NULL DEFAULT 0
);
CREATE INDEX claim_by_holder ON claim (holder);

-- What lies in the database is mostly compressed already, or small.
ALTER TABLE blob ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE manifest ALTER COLUMN data SET STORAGE EXTERNAL;
ALTER TABLE session ALTER COLUMN data SET STORAGE EXTERNAL;
