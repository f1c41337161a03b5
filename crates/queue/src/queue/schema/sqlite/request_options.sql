-- Options that a client submitted with a request.

ALTER TABLE requests ADD COLUMN start_before INTEGER; -- microseconds since 1970; not started by then: it fails
ALTER TABLE requests ADD COLUMN no_retry INTEGER NOT NULL DEFAULT 0; -- fails when its worker is lost
CREATE INDEX requests_start_before ON requests (start_before)
    WHERE state = 'waiting' AND start_before IS NOT NULL;
