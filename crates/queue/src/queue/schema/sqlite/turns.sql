-- Whose turn it is: within a priority the keys of the API take turns (../../turns.rs). A request keeps its turn.

ALTER TABLE requests ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
DROP INDEX requests_waiting;
CREATE INDEX requests_waiting ON requests (priority, turn, seq) WHERE state = 'waiting';
CREATE INDEX requests_started ON requests (priority, turn) WHERE started_at IS NOT NULL;

CREATE TABLE turns (
    priority INTEGER NOT NULL,
    api_key  TEXT    NOT NULL,                          -- '': requests without a key of the table
    next     INTEGER NOT NULL,                          -- the earliest turn of the key's next request
    PRIMARY KEY (priority, api_key)
) WITHOUT ROWID;
