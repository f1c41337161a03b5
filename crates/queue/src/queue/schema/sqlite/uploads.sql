-- Files that clients sent, and the parts of those that come in pieces.

CREATE TABLE uploads (
    ticket         TEXT    PRIMARY KEY,                 -- secret: whoever knows it may write the file, once
    key            TEXT    NOT NULL UNIQUE,             -- public name
    object         TEXT,                                -- name in the object store; set when the file is whole
    content_type   TEXT    NOT NULL,
    file_name      TEXT,                                -- what the client called it; never a path
    lifetime       INTEGER,                             -- microseconds from being whole to being deleted
    writable_until INTEGER NOT NULL,
    expires_at     INTEGER                              -- microseconds since 1970
);
CREATE INDEX uploads_ending ON uploads (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX uploads_open ON uploads (writable_until) WHERE object IS NULL;

CREATE TABLE upload_parts (
    ticket TEXT    NOT NULL REFERENCES uploads (ticket) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    object TEXT    NOT NULL,                            -- name in the object store
    bytes  INTEGER NOT NULL,
    PRIMARY KEY (ticket, number)
);

CREATE TABLE upload_tokens (
    sha256     TEXT    PRIMARY KEY,                     -- of the token; the token itself is not kept
    expires_at INTEGER NOT NULL
);
