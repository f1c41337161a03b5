-- Which database this is. The folder of its files carries the same id, so that neither is used with another's.

CREATE TABLE identity (
    id        TEXT    NOT NULL,
    joined_at INTEGER,                                  -- microseconds since 1970: since when it has its folder
    starts    INTEGER NOT NULL DEFAULT 0,               -- how often a server was started with both
    probes    INTEGER NOT NULL DEFAULT 0                -- raised to find out whether the database can be written
);
INSERT INTO identity (id) VALUES (lower(hex(randomblob(16))));

-- A full disk used to be recorded as the end of a request. A client that sends such a request again gets another one.
UPDATE requests SET idempotency_key = NULL
WHERE failure = 'engine' AND (failure_message LIKE 'file storage: %' OR failure_message LIKE 'queue database: %');
