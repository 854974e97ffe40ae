-- From version 5 to 6: what referred to a subject that was deleted becomes candidates in steps.

CREATE TABLE deleted_subject (
    repository INTEGER NOT NULL,
    digest     TEXT NOT NULL,
    since      INTEGER NOT NULL,
    marked     TEXT NOT NULL,
    PRIMARY KEY (repository, digest)
) STRICT, WITHOUT ROWID;
