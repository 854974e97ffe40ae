-- From version 1 to 2: what an index lists and is a blob is held as one.

INSERT INTO manifest_blob (parent, repository, blob)
    SELECT listed.parent, listed.repository, blob.id FROM manifest_child AS listed
    JOIN blob ON blob.digest = listed.child
    JOIN repository_blob AS link ON link.repository = listed.repository AND link.blob = blob.id
    ON CONFLICT DO NOTHING;
