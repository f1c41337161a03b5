-- The whole schema, as the SQLite one stands after its migrations: see there for what each column is. Times are
-- microseconds since 1970 by the database's clock, `latentd_now()`.

CREATE FUNCTION latentd_now() RETURNS BIGINT LANGUAGE sql VOLATILE AS
    $$ SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

CREATE TABLE requests (
    seq              BIGINT  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id               TEXT    NOT NULL UNIQUE,
    endpoint         TEXT    NOT NULL,
    origin           TEXT    NOT NULL,
    priority         BIGINT  NOT NULL,
    turn             BIGINT  NOT NULL DEFAULT 0,
    body             TEXT    NOT NULL,
    model            TEXT,
    state            TEXT    NOT NULL,
    attempt          BIGINT  NOT NULL DEFAULT 0,
    deaths           BIGINT  NOT NULL DEFAULT 0,
    worker           TEXT,
    lease_until      BIGINT,
    charged          BOOLEAN NOT NULL DEFAULT FALSE,
    cancel_requested BOOLEAN NOT NULL DEFAULT FALSE,
    no_retry         BOOLEAN NOT NULL DEFAULT FALSE,
    start_before     BIGINT,
    rests_until      BIGINT,
    created_at       BIGINT  NOT NULL,
    started_at       BIGINT,
    finished_at      BIGINT,
    ended_at         BIGINT,
    output           TEXT,
    failure          TEXT,
    failure_message  TEXT,
    failure_detail   TEXT,
    api_key          TEXT,
    idempotency_key  TEXT,
    input_digest     TEXT,
    result_life      BIGINT,
    forget           BOOLEAN NOT NULL DEFAULT FALSE,
    erase_at         BIGINT,
    erased_at        BIGINT
);
CREATE INDEX requests_waiting ON requests (priority, turn, seq) WHERE state = 'waiting';
CREATE INDEX requests_started ON requests (priority, turn) WHERE started_at IS NOT NULL;
CREATE INDEX requests_running ON requests (worker) WHERE state = 'running';
CREATE INDEX requests_start_before ON requests (start_before) WHERE state = 'waiting' AND start_before IS NOT NULL;
CREATE INDEX requests_running_of_key ON requests (api_key) WHERE state = 'running';
CREATE INDEX requests_direct_of_key ON requests (api_key) WHERE state = 'waiting' AND origin = 'direct';
CREATE INDEX requests_to_erase ON requests (erase_at) WHERE erase_at IS NOT NULL;
CREATE INDEX requests_ended ON requests (ended_at) WHERE state = 'done';
CREATE UNIQUE INDEX requests_idempotency ON requests (endpoint, coalesce(api_key, ''), idempotency_key)
    WHERE idempotency_key IS NOT NULL;
-- Rows come and go at the head of the queue: what is dead there is cleaned up before it is much.
ALTER TABLE requests SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

CREATE TABLE turns (
    priority BIGINT NOT NULL,
    api_key  TEXT   NOT NULL,
    next     BIGINT NOT NULL,
    PRIMARY KEY (priority, api_key)
);

CREATE TABLE request_logs (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request    TEXT   NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    at         BIGINT NOT NULL,
    level      TEXT   NOT NULL,
    message    TEXT   NOT NULL,
    written_at BIGINT NOT NULL
);
CREATE INDEX request_logs_of ON request_logs (request, seq);
CREATE INDEX request_logs_by_time ON request_logs (written_at);

CREATE TABLE files (
    key          TEXT   PRIMARY KEY,
    request      TEXT   NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
    content_type TEXT   NOT NULL,
    bytes        BIGINT NOT NULL,
    sha256       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT
);
CREATE INDEX files_of ON files (request);
CREATE INDEX files_ending ON files (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE workers (
    id         TEXT   PRIMARY KEY,
    device     TEXT   NOT NULL,
    state      TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    beat_at    BIGINT NOT NULL,
    models     TEXT   NOT NULL DEFAULT '[]'
);

CREATE TABLE api_keys (
    id           TEXT   PRIMARY KEY,
    sha256       BYTEA  NOT NULL,
    name         TEXT   NOT NULL,
    scope        TEXT   NOT NULL,
    concurrency  BIGINT,
    created_at   BIGINT NOT NULL,
    last_used_at BIGINT,
    revoked_at   BIGINT
);

CREATE TABLE webhooks (
    request         TEXT   PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    url             TEXT   NOT NULL,
    receiver        TEXT   NOT NULL,
    origin          TEXT   NOT NULL,
    state           TEXT   NOT NULL DEFAULT 'waiting',
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,
    held_until      BIGINT
);
CREATE INDEX webhooks_due ON webhooks (next_attempt_at) WHERE state = 'due';
CREATE INDEX webhooks_of_receiver ON webhooks (receiver) WHERE state = 'due';

CREATE TABLE previews (
    request       TEXT   PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    watched_until BIGINT NOT NULL,
    number        BIGINT NOT NULL DEFAULT 0,
    picture       BYTEA
);

CREATE TABLE states (
    request TEXT   PRIMARY KEY REFERENCES requests (id) ON DELETE CASCADE,
    bytes   BYTEA  NOT NULL,
    uses    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE uploads (
    ticket         TEXT   PRIMARY KEY,
    key            TEXT   NOT NULL UNIQUE,
    object         TEXT,
    content_type   TEXT   NOT NULL,
    file_name      TEXT,
    lifetime       BIGINT,
    writable_until BIGINT NOT NULL,
    expires_at     BIGINT,
    access         TEXT
);
CREATE INDEX uploads_ending ON uploads (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX uploads_open ON uploads (writable_until) WHERE object IS NULL;
CREATE INDEX uploads_objects ON uploads (object) WHERE object IS NOT NULL;

CREATE TABLE upload_parts (
    ticket TEXT   NOT NULL REFERENCES uploads (ticket) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    object TEXT   NOT NULL,
    bytes  BIGINT NOT NULL,
    PRIMARY KEY (ticket, number)
);
CREATE INDEX upload_parts_objects ON upload_parts (object);

CREATE TABLE upload_tokens (
    sha256     TEXT   PRIMARY KEY,
    expires_at BIGINT NOT NULL
);

CREATE TABLE unowned_files (
    key      TEXT    PRIMARY KEY,
    since    BIGINT  NOT NULL,
    request  TEXT,
    attempt  BIGINT,
    given_up BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX unowned_files_given_up ON unowned_files (key) WHERE given_up;

CREATE TABLE identity (
    id        TEXT   NOT NULL,
    joined_at BIGINT,
    starts    BIGINT NOT NULL DEFAULT 0,
    probes    BIGINT NOT NULL DEFAULT 0
);
INSERT INTO identity (id) VALUES (replace(gen_random_uuid()::text, '-', ''));

CREATE TABLE counters (
    metric TEXT             NOT NULL,
    label  TEXT             NOT NULL,
    other  TEXT             NOT NULL,
    bound  DOUBLE PRECISION NOT NULL,
    count  BIGINT           NOT NULL,
    sum    DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (metric, label, other, bound)
);

CREATE TABLE counter_bounds (
    metric TEXT             NOT NULL,
    bound  DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (metric, bound)
);
INSERT INTO counter_bounds (metric, bound) VALUES
    ('queue_wait', 0.05), ('queue_wait', 0.25), ('queue_wait', 1), ('queue_wait', 5), ('queue_wait', 15),
    ('queue_wait', 60), ('queue_wait', 300), ('queue_wait', 1800), ('queue_wait', 7200),
    ('e2e', 0.25), ('e2e', 1), ('e2e', 2.5), ('e2e', 5), ('e2e', 10), ('e2e', 20), ('e2e', 60), ('e2e', 300),
    ('e2e', 1800), ('e2e', 7200),
    ('inference', 0.005), ('inference', 0.025), ('inference', 0.1), ('inference', 0.25), ('inference', 0.5),
    ('inference', 1), ('inference', 2), ('inference', 3), ('inference', 5), ('inference', 10), ('inference', 30),
    ('inference', 120), ('inference', 600),
    ('safety_score', -0.2), ('safety_score', -0.1), ('safety_score', -0.05), ('safety_score', 0),
    ('safety_score', 0.05), ('safety_score', 0.1), ('safety_score', 0.2), ('safety_score', 0.3),
    ('safety_score', 0.4), ('safety_score', 0.5), ('safety_score', 0.6), ('safety_score', 0.7),
    ('safety_score', 0.8), ('safety_score', 0.9), ('safety_score', 1);
INSERT INTO counter_bounds (metric, bound) SELECT DISTINCT metric, 'Infinity'::float8 FROM counter_bounds;

-- However a request ends, the same transaction does all that follows from it.

CREATE FUNCTION latentd_count(metric TEXT, label TEXT, other TEXT, value DOUBLE PRECISION) RETURNS VOID LANGUAGE sql AS $$
    INSERT INTO counters AS c (metric, label, other, bound, count, sum)
    VALUES ($1, $2, $3, coalesce(
        (SELECT min(b.bound) FROM counter_bounds AS b WHERE b.metric = $1 AND b.bound >= $4), 'Infinity'::float8), 1, $4)
    ON CONFLICT (metric, label, other, bound) DO UPDATE SET count = c.count + 1, sum = c.sum + excluded.sum
$$;

CREATE FUNCTION latentd_request_ended() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM previews WHERE request = NEW.id;
    DELETE FROM states WHERE request = NEW.id;
    UPDATE webhooks SET state = 'due', next_attempt_at = NEW.ended_at WHERE request = NEW.id;
    IF NEW.forget THEN
        UPDATE requests SET body = 'null', erase_at = NEW.ended_at + NEW.result_life WHERE id = NEW.id;
    END IF;
    PERFORM latentd_count('requests', coalesce(NEW.model, NEW.endpoint), coalesce(NEW.failure, 'succeeded'), 0);
    IF NEW.started_at IS NOT NULL THEN
        PERFORM latentd_count('queue_wait', '', '', (NEW.started_at - NEW.created_at) / 1e6);
    END IF;
    IF NEW.failure IS NULL THEN
        PERFORM latentd_count('e2e', '', '', (NEW.finished_at - NEW.created_at) / 1e6);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER request_ended AFTER UPDATE OF state ON requests FOR EACH ROW
    WHEN (NEW.state = 'done' AND OLD.state <> 'done') EXECUTE FUNCTION latentd_request_ended();

CREATE FUNCTION latentd_request_refused() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    PERFORM latentd_count('requests', coalesce(NEW.model, NEW.endpoint), NEW.failure, 0);
    RETURN NULL;
END $$;
CREATE TRIGGER request_refused AFTER INSERT ON requests FOR EACH ROW
    WHEN (NEW.state = 'done') EXECUTE FUNCTION latentd_request_refused();

CREATE FUNCTION latentd_attempt_lost() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN
    UPDATE previews SET picture = NULL WHERE request = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER attempt_lost AFTER UPDATE OF state ON requests FOR EACH ROW
    WHEN (NEW.state = 'waiting') EXECUTE FUNCTION latentd_attempt_lost();

-- Files move between their owners and unowned_files in the transaction that changes the owner.

CREATE FUNCTION latentd_own(file TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM unowned_files WHERE key = file AND NOT given_up;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a file that was given up, or never written down, cannot have an owner';
    END IF;
END $$;

CREATE FUNCTION latentd_give_up(file TEXT) RETURNS VOID LANGUAGE sql AS $$
    INSERT INTO unowned_files (key, since, given_up) VALUES (file, 0, TRUE)
    ON CONFLICT (key) DO UPDATE SET since = 0, request = NULL, attempt = NULL, given_up = TRUE
$$;

CREATE FUNCTION latentd_own_file() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN PERFORM latentd_own(NEW.key); RETURN NEW; END $$;
CREATE FUNCTION latentd_own_object() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN PERFORM latentd_own(NEW.object); RETURN NEW; END $$;
CREATE FUNCTION latentd_give_up_file() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN PERFORM latentd_give_up(OLD.key); RETURN NULL; END $$;
CREATE FUNCTION latentd_give_up_object() RETURNS TRIGGER LANGUAGE plpgsql AS $$
BEGIN PERFORM latentd_give_up(OLD.object); RETURN NULL; END $$;

CREATE TRIGGER file_of_request_is_owned BEFORE INSERT ON files FOR EACH ROW EXECUTE FUNCTION latentd_own_file();
CREATE TRIGGER file_of_upload_is_owned BEFORE UPDATE OF object ON uploads FOR EACH ROW
    WHEN (NEW.object IS NOT NULL) EXECUTE FUNCTION latentd_own_object();
CREATE TRIGGER file_of_part_is_owned BEFORE INSERT ON upload_parts FOR EACH ROW EXECUTE FUNCTION latentd_own_object();
CREATE TRIGGER file_of_request_is_given_up AFTER DELETE ON files FOR EACH ROW EXECUTE FUNCTION latentd_give_up_file();
CREATE TRIGGER file_of_upload_is_given_up AFTER DELETE ON uploads FOR EACH ROW
    WHEN (OLD.object IS NOT NULL) EXECUTE FUNCTION latentd_give_up_object();
CREATE TRIGGER file_of_part_is_given_up AFTER DELETE ON upload_parts FOR EACH ROW EXECUTE FUNCTION latentd_give_up_object();
