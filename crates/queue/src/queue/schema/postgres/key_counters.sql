-- As schema/sqlite/key_counters.sql. The names sort behind the triggers that count for all keys: transactions lock counters
-- in one order.

CREATE FUNCTION latentd_request_of_key_ended() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM latentd_count('key_requests', NEW.api_key, coalesce(NEW.failure, 'succeeded'), 0);
    RETURN NULL;
END $$;
CREATE TRIGGER request_ended_of_key AFTER UPDATE OF state ON requests FOR EACH ROW
    WHEN (NEW.state = 'done' AND OLD.state <> 'done' AND NEW.api_key IS NOT NULL)
    EXECUTE FUNCTION latentd_request_of_key_ended();
CREATE TRIGGER request_refused_of_key AFTER INSERT ON requests FOR EACH ROW
    WHEN (NEW.state = 'done' AND NEW.api_key IS NOT NULL) EXECUTE FUNCTION latentd_request_of_key_ended();
