-- See ../sqlite/progress.sql.

ALTER TABLE states ADD COLUMN progress BIGINT NOT NULL DEFAULT 0;
ALTER TABLE states ADD COLUMN progress_at_death BIGINT NOT NULL DEFAULT 0;
