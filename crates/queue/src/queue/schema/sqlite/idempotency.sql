-- Keys with which clients name requests, so that one that is sent again is not another.

ALTER TABLE requests ADD COLUMN idempotency_key TEXT;
ALTER TABLE requests ADD COLUMN input_digest TEXT;      -- SHA-256 of the input that the key stands for
CREATE UNIQUE INDEX requests_idempotency ON requests (endpoint, coalesce(api_key, ''), idempotency_key)
    WHERE idempotency_key IS NOT NULL;
