-- What the limits of what is kept are measured by (../../pruning.rs, ../../stored.rs), and whose an upload is.

ALTER TABLE requests ADD COLUMN accepted_at INTEGER NOT NULL DEFAULT 0; -- `created_at` in service time, while it is not over
UPDATE requests SET accepted_at = created_at WHERE state <> 'done';
CREATE INDEX requests_with_result ON requests (ended_at) WHERE state = 'done' AND erased_at IS NULL;
CREATE INDEX requests_with_input ON requests (ended_at) WHERE state = 'done' AND body <> 'null';

ALTER TABLE uploads ADD COLUMN bytes INTEGER;           -- size of the whole file; NULL: not known yet
ALTER TABLE uploads ADD COLUMN whole_at INTEGER;        -- in service time
ALTER TABLE uploads ADD COLUMN api_key TEXT;            -- id of the key that it was sent with, if it was one of the table
UPDATE uploads SET whole_at = writable_until WHERE object IS NOT NULL;
CREATE INDEX uploads_whole ON uploads (whole_at) WHERE object IS NOT NULL;
ALTER TABLE upload_tokens ADD COLUMN api_key TEXT;      -- id of the key that asked for it

-- Which server removes what is past its time, where several share the database.
CREATE TABLE sweep_lease (
    holder     TEXT    NOT NULL,
    held_until INTEGER NOT NULL                         -- in service time
);
INSERT INTO sweep_lease VALUES ('', 0);
