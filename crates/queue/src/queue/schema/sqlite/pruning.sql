-- Tickets of uploads are kept as digests, and finished requests are found by their age.

-- A ticket that was stored as it is cannot be turned into its digest here. Those of whole files are used up; the others
-- end now, and their parts go with the next sweep.
PRAGMA defer_foreign_keys = ON;
UPDATE uploads SET writable_until = 0 WHERE object IS NULL;
UPDATE upload_parts SET ticket =
    (SELECT 'ended:' || uploads.key FROM uploads WHERE uploads.ticket = upload_parts.ticket);
UPDATE uploads SET ticket = 'ended:' || key;

CREATE INDEX requests_ended ON requests (finished_at) WHERE state = 'done';
CREATE INDEX request_logs_by_time ON request_logs (at);
