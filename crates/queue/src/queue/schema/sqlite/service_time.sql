-- Deadlines and ages are measured by service time from here on (../service_time.rs), which setting the date does not
-- move. It begins as the date, so what stands in these columns already stays valid: requests.start_before, rests_until and
-- erase_at; files.expires_at; uploads.writable_until and expires_at; upload_tokens.expires_at; unowned_files.since;
-- previews.watched_until; webhooks.next_attempt_at and held_until; identity.joined_at.

CREATE TABLE service_time (
    service_us INTEGER NOT NULL,                        -- service time when this row was written
    uptime_us  INTEGER NOT NULL,                        -- the machine's uptime then
    date_us    INTEGER NOT NULL,                        -- the date then, microseconds since 1970
    boot       TEXT    NOT NULL                         -- which start of which machine; '': none yet
);
INSERT INTO service_time SELECT now, 0, now, '' FROM (SELECT CAST(unixepoch('subsec') * 1e6 AS INTEGER) AS now);

ALTER TABLE requests ADD COLUMN ended_at INTEGER;       -- `finished_at` in service time
UPDATE requests SET ended_at = finished_at, rests_until = NULL;
DROP INDEX requests_ended;
CREATE INDEX requests_ended ON requests (ended_at) WHERE state = 'done';
ALTER TABLE requests DROP COLUMN start_lease;

ALTER TABLE request_logs ADD COLUMN written_at INTEGER NOT NULL DEFAULT 0; -- `at` in service time
UPDATE request_logs SET written_at = at;
DROP INDEX request_logs_by_time;
CREATE INDEX request_logs_by_time ON request_logs (written_at);

DROP TRIGGER webhook_of_ended_request;
CREATE TRIGGER webhook_of_ended_request AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done'
BEGIN
    UPDATE webhooks SET state = 'due', next_attempt_at = NEW.ended_at WHERE request = NEW.id;
END;

DROP TRIGGER input_of_forgotten_request;
CREATE TRIGGER input_of_forgotten_request AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done' AND NEW.forget = 1
BEGIN
    UPDATE requests SET body = 'null', erase_at = NEW.ended_at + NEW.result_life WHERE id = NEW.id;
END;
