-- How requests end, for each key of the table.

CREATE TRIGGER counters_of_ended_request_of_key AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done' AND NEW.api_key IS NOT NULL
BEGIN
    INSERT INTO counters VALUES ('key_requests', NEW.api_key, coalesce(NEW.failure, 'succeeded'), 9e999, 1, 0)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;

CREATE TRIGGER counters_of_refused_request_of_key AFTER INSERT ON requests
WHEN NEW.state = 'done' AND NEW.api_key IS NOT NULL
BEGIN
    INSERT INTO counters VALUES ('key_requests', NEW.api_key, NEW.failure, 9e999, 1, 0)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
