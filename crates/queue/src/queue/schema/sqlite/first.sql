-- The queue's tables. One table is the system of record; the others stand beside it.

CREATE TABLE requests (
    seq              INTEGER PRIMARY KEY AUTOINCREMENT, -- order of acceptance: a reclaimed request keeps it
    id               TEXT    NOT NULL UNIQUE,           -- uuid v7
    endpoint         TEXT    NOT NULL,                  -- application id, as the client wrote it
    origin           TEXT    NOT NULL,                  -- 'queued' or 'direct' (a client waits on the line)
    priority         INTEGER NOT NULL,                  -- smaller first
    body             TEXT    NOT NULL,                  -- what the worker needs, opaque to the queue
    state            TEXT    NOT NULL,                  -- 'waiting', 'running' or 'done'
    attempt          INTEGER NOT NULL DEFAULT 0,        -- raised by every claim; fences every later write
    deaths           INTEGER NOT NULL DEFAULT 0,        -- workers that died with this request in hand
    worker           TEXT,                              -- who runs it
    lease_until      INTEGER,                           -- microseconds since 1970
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,                           -- of the latest attempt
    finished_at      INTEGER,
    output           TEXT,                              -- set when it succeeded, opaque to the queue
    failure          TEXT,                              -- kind, set when it did not
    failure_message  TEXT,
    failure_detail   TEXT                               -- opaque to the queue
);
CREATE INDEX requests_waiting ON requests (priority, seq) WHERE state = 'waiting';
CREATE INDEX requests_running ON requests (worker) WHERE state = 'running';

CREATE TABLE request_logs (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT    NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    at      INTEGER NOT NULL,
    level   TEXT    NOT NULL,
    message TEXT    NOT NULL
);
CREATE INDEX request_logs_of ON request_logs (request, seq);

CREATE TABLE files (
    key          TEXT    PRIMARY KEY,                   -- name in the object store
    request      TEXT    NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    content_type TEXT    NOT NULL,
    bytes        INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    created_at   INTEGER NOT NULL
);
CREATE INDEX files_of ON files (request);

CREATE TABLE workers (
    id         TEXT    PRIMARY KEY,
    device     TEXT    NOT NULL,
    state      TEXT    NOT NULL,                        -- 'loading' or 'ready'
    started_at INTEGER NOT NULL,
    beat_at    INTEGER NOT NULL
);
