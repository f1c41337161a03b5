-- What an attempt at a request has got to, so that the next one goes on from there (../../states.rs).

CREATE TABLE states (
    request TEXT    PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    bytes   BLOB    NOT NULL,                           -- opaque to the queue
    uses    INTEGER NOT NULL DEFAULT 0                  -- attempts that went on from it and stored no newer one
);

CREATE TRIGGER state_of_ended_request AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done'
BEGIN
    DELETE FROM states WHERE request = NEW.id;
END;
