-- The webhooks of requests. A row is written with its request and becomes due with its end.

CREATE TABLE webhooks (
    request         TEXT    PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    url             TEXT    NOT NULL,                   -- where the client wants the result
    receiver        TEXT    NOT NULL,                   -- the URL's host and port: each gets its share
    origin          TEXT    NOT NULL,                   -- how the client reached the server, for files in the message
    state           TEXT    NOT NULL DEFAULT 'waiting', -- 'waiting' for the end, 'due', 'delivered' or 'given_up'
    attempts        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at INTEGER,                            -- microseconds since 1970
    held_until      INTEGER                             -- an attempt is on its way until then
);
CREATE INDEX webhooks_due ON webhooks (next_attempt_at) WHERE state = 'due';
CREATE INDEX webhooks_of_receiver ON webhooks (receiver) WHERE state = 'due';

-- However a request ends, the same transaction makes its webhook due.
CREATE TRIGGER webhook_of_ended_request AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done'
BEGIN
    UPDATE webhooks SET state = 'due', next_attempt_at = NEW.finished_at WHERE request = NEW.id;
END;
