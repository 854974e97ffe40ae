-- From version 1 to 2.

ALTER TABLE pending_object ADD COLUMN delete_after INTEGER;
UPDATE pending_object SET delete_after = 0 WHERE condemned <> 0;
ALTER TABLE pending_object DROP COLUMN condemned;
CREATE INDEX pending_object_by_time ON pending_object (delete_after) WHERE delete_after IS NOT NULL;

ALTER TABLE repository_blob ADD COLUMN candidate_since INTEGER;
UPDATE repository_blob SET candidate_since = unixepoch()
    WHERE NOT EXISTS (SELECT 1 FROM manifest_blob
                      WHERE manifest_blob.repository = repository_blob.repository
                      AND manifest_blob.blob = repository_blob.blob);
CREATE INDEX repository_blob_candidate ON repository_blob (candidate_since) WHERE candidate_since IS NOT NULL;

ALTER TABLE repository_manifest ADD COLUMN candidate_since INTEGER;
UPDATE repository_manifest SET candidate_since = unixepoch()
    WHERE NOT EXISTS (SELECT 1 FROM tag WHERE tag.manifest = repository_manifest.id);
CREATE INDEX repository_manifest_candidate ON repository_manifest (candidate_since)
    WHERE candidate_since IS NOT NULL;

CREATE TABLE manifest_child_2 (
    parent     INTEGER NOT NULL REFERENCES repository_manifest ON DELETE RESTRICT,
    repository INTEGER NOT NULL,
    child      TEXT NOT NULL,
    PRIMARY KEY (parent, child)
) STRICT, WITHOUT ROWID;
INSERT INTO manifest_child_2 (parent, repository, child)
    SELECT parent, repository, child FROM manifest_child
    JOIN repository_manifest ON repository_manifest.id = manifest_child.parent;
DROP TABLE manifest_child;
ALTER TABLE manifest_child_2 RENAME TO manifest_child;
CREATE INDEX manifest_child_by_child ON manifest_child (repository, child);

-- Version 1 kept what no repository had any more.
INSERT INTO pending_object (key, delete_after)
    SELECT object, unixepoch() FROM blob
    WHERE object IS NOT NULL AND NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.blob = blob.id);
DELETE FROM blob WHERE NOT EXISTS (SELECT 1 FROM repository_blob WHERE repository_blob.blob = blob.id);
DELETE FROM manifest
    WHERE NOT EXISTS (SELECT 1 FROM repository_manifest WHERE repository_manifest.manifest = manifest.id);
