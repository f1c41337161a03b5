-- How far a request has got, so that the deaths of workers count only where it got no further (../../recover.rs).

ALTER TABLE states ADD COLUMN progress INTEGER NOT NULL DEFAULT 0;          -- most steps of any state
ALTER TABLE states ADD COLUMN progress_at_death INTEGER NOT NULL DEFAULT 0; -- the same at the last charged death
