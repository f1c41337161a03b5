-- Keys that open the API, and which of them a request came with.

CREATE TABLE api_keys (
    id           TEXT    PRIMARY KEY,                   -- the public half of a key
    sha256       BLOB    NOT NULL,                      -- of `id:secret`; the key itself is not kept
    name         TEXT    NOT NULL,
    scope        TEXT    NOT NULL,                      -- 'api' or 'admin'
    concurrency  INTEGER,                               -- requests that may run at once; NULL: any number
    created_at   INTEGER NOT NULL,                      -- microseconds since 1970
    last_used_at INTEGER,
    revoked_at   INTEGER
);

ALTER TABLE requests ADD COLUMN api_key TEXT;           -- id of the key, if it was one of the table
CREATE INDEX requests_running_of_key ON requests (api_key) WHERE state = 'running';
CREATE INDEX requests_direct_of_key ON requests (api_key) WHERE state = 'waiting' AND origin = 'direct';
