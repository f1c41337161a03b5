-- See ../sqlite/client.sql.

ALTER TABLE requests ADD COLUMN client TEXT;
