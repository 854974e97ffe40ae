-- From version 2 to 3: a completed upload keeps the digest of its blob.

ALTER TABLE session ADD COLUMN digest text COLLATE "C" CHECK (closed OR digest IS NULL);
