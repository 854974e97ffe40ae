-- From version 4 to 5: a completed upload keeps the digest of its blob.

ALTER TABLE closed_session ADD COLUMN digest TEXT;
