-- The span of the call that submitted the request, as W3C Trace Context writes it; the worker's spans follow it.

ALTER TABLE requests ADD COLUMN traceparent TEXT;
