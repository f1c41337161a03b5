-- Files of the store that no other row names: those that are being written, and those that are to be removed.
--
-- A file is written down here before it is made and leaves this table in the transaction that gives it an owner. A row
-- that owned a file puts it back here when it goes. So a file without an owner always has a row that says so, and nothing
-- is ever removed because a row is missing.

CREATE TABLE unowned_files (
    key      TEXT    PRIMARY KEY,                       -- name in the object store
    since    INTEGER NOT NULL,                          -- microseconds since 1970; its writer lived then
    request  TEXT,                                      -- whose attempt writes it; NULL: the server, for a client
    attempt  INTEGER,
    given_up INTEGER NOT NULL DEFAULT 0                 -- nobody will own it: it may be removed
) WITHOUT ROWID;
CREATE INDEX unowned_files_given_up ON unowned_files (key) WHERE given_up = 1;

CREATE TRIGGER file_of_request_is_owned BEFORE INSERT ON files
BEGIN
    SELECT RAISE(ABORT, 'a file that was given up, or never written down, cannot have an owner')
    WHERE NOT EXISTS (SELECT 1 FROM unowned_files WHERE key = NEW.key AND given_up = 0);
    DELETE FROM unowned_files WHERE key = NEW.key;
END;

CREATE TRIGGER file_of_upload_is_owned BEFORE UPDATE OF object ON uploads WHEN NEW.object IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'a file that was given up, or never written down, cannot have an owner')
    WHERE NOT EXISTS (SELECT 1 FROM unowned_files WHERE key = NEW.object AND given_up = 0);
    DELETE FROM unowned_files WHERE key = NEW.object;
END;

CREATE TRIGGER file_of_part_is_owned BEFORE INSERT ON upload_parts
BEGIN
    SELECT RAISE(ABORT, 'a file that was given up, or never written down, cannot have an owner')
    WHERE NOT EXISTS (SELECT 1 FROM unowned_files WHERE key = NEW.object AND given_up = 0);
    DELETE FROM unowned_files WHERE key = NEW.object;
END;

CREATE TRIGGER file_of_request_is_given_up AFTER DELETE ON files
BEGIN
    INSERT OR REPLACE INTO unowned_files (key, since, given_up) VALUES (OLD.key, 0, 1);
END;

CREATE TRIGGER file_of_upload_is_given_up AFTER DELETE ON uploads WHEN OLD.object IS NOT NULL
BEGIN
    INSERT OR REPLACE INTO unowned_files (key, since, given_up) VALUES (OLD.object, 0, 1);
END;

CREATE TRIGGER file_of_part_is_given_up AFTER DELETE ON upload_parts
BEGIN
    INSERT OR REPLACE INTO unowned_files (key, since, given_up) VALUES (OLD.object, 0, 1);
END;
