-- The address of the client, until the request ends (../../finished.rs).

ALTER TABLE requests ADD COLUMN client TEXT;
