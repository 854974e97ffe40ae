-- From version 2 to 3.

ALTER TABLE pending_object ADD COLUMN state BLOB;
