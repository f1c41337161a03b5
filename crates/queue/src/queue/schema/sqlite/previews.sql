-- Watched running requests, and the newest preview of each.

CREATE TABLE previews (
    request       TEXT    PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    watched_until INTEGER NOT NULL,                     -- microseconds since 1970: nobody may be there any more
    number        INTEGER NOT NULL DEFAULT 0,           -- of the preview: raised by each
    picture       BLOB                                  -- of the running attempt, opaque to the queue
);

-- However a request ends, nothing is left to watch; one that starts again has no preview yet.
CREATE TRIGGER preview_of_ended_request AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done'
BEGIN
    DELETE FROM previews WHERE request = NEW.id;
END;

CREATE TRIGGER preview_of_lost_attempt AFTER UPDATE OF state ON requests
WHEN NEW.state = 'waiting'
BEGIN
    UPDATE previews SET picture = NULL WHERE request = NEW.id;
END;
