-- As schema/sqlite/keeping.sql.

ALTER TABLE requests ADD COLUMN accepted_at BIGINT NOT NULL DEFAULT 0;
UPDATE requests SET accepted_at = created_at WHERE state <> 'done';
CREATE INDEX requests_with_result ON requests (ended_at) WHERE state = 'done' AND erased_at IS NULL;
CREATE INDEX requests_with_input ON requests (ended_at) WHERE state = 'done' AND body <> 'null';

ALTER TABLE uploads ADD COLUMN bytes BIGINT, ADD COLUMN whole_at BIGINT, ADD COLUMN api_key TEXT;
UPDATE uploads SET whole_at = writable_until WHERE object IS NOT NULL;
CREATE INDEX uploads_whole ON uploads (whole_at) WHERE object IS NOT NULL;
ALTER TABLE upload_tokens ADD COLUMN api_key TEXT;

CREATE TABLE sweep_lease (
    holder     TEXT   NOT NULL,
    held_until BIGINT NOT NULL
);
INSERT INTO sweep_lease VALUES ('', 0);
