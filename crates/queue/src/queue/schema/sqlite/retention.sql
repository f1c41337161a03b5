-- How long what a request brought and made is kept.

ALTER TABLE requests ADD COLUMN result_life INTEGER;    -- microseconds from its end that its files live; NULL: for good
ALTER TABLE requests ADD COLUMN forget INTEGER NOT NULL DEFAULT 0; -- its input goes with its end, its output later
ALTER TABLE requests ADD COLUMN erase_at INTEGER;       -- microseconds since 1970; when its output goes
ALTER TABLE requests ADD COLUMN erased_at INTEGER;
CREATE INDEX requests_to_erase ON requests (erase_at) WHERE erase_at IS NOT NULL;

ALTER TABLE files ADD COLUMN expires_at INTEGER;        -- microseconds since 1970; NULL: never
CREATE INDEX files_ending ON files (expires_at) WHERE expires_at IS NOT NULL;

-- Names of objects are looked up to find objects without one.
CREATE INDEX uploads_objects ON uploads (object) WHERE object IS NOT NULL;
CREATE INDEX upload_parts_objects ON upload_parts (object);

-- However a request ends, the same transaction takes an input away that is not to be kept.
CREATE TRIGGER input_of_forgotten_request AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done' AND NEW.forget = 1
BEGIN
    UPDATE requests SET body = 'null', erase_at = NEW.finished_at + NEW.result_life WHERE id = NEW.id;
END;
