-- See ../sqlite/traceparent.sql.

ALTER TABLE requests ADD COLUMN traceparent TEXT;
