-- To which of its claims a worker's death is charged. From here on `requests.lease_until` and `workers.beat_at` are lease
-- time (microseconds of the clock in src/queue/lease.rs), not the time of day.

ALTER TABLE requests ADD COLUMN charged INTEGER NOT NULL DEFAULT 0; -- 1: the engine works on it, or worked on it last

-- `start_before` once more, in lease time: setting the date makes no request late.
ALTER TABLE requests ADD COLUMN start_lease INTEGER;
