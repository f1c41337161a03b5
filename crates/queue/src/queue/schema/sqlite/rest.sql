-- Requests that the machine could not run, and that are left alone for a while in their place.

ALTER TABLE requests ADD COLUMN rests_until INTEGER;    -- microseconds since 1970; NULL: it may be claimed
