-- What has happened, counted: the numbers outlive the requests that they come from and the processes that saw them.

CREATE TABLE counters (
    metric TEXT    NOT NULL,
    label  TEXT    NOT NULL,                            -- value of the metric's label, '' if it has none
    other  TEXT    NOT NULL,                            -- the same, once more
    bound  REAL    NOT NULL,                            -- the bucket of these values: its upper end
    count  INTEGER NOT NULL,
    sum    REAL    NOT NULL,
    PRIMARY KEY (metric, label, other, bound)
) WITHOUT ROWID;

-- Upper ends of the buckets of what has values; what is only counted has no row here and one bucket without an end.
CREATE TABLE counter_bounds (
    metric TEXT    NOT NULL,
    bound  REAL    NOT NULL,
    PRIMARY KEY (metric, bound)
) WITHOUT ROWID;

INSERT INTO counter_bounds (metric, bound)
SELECT column1, column2 FROM (VALUES
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
    ('safety_score', 0.8), ('safety_score', 0.9), ('safety_score', 1)
);
INSERT INTO counter_bounds (metric, bound) SELECT DISTINCT metric, 9e999 FROM counter_bounds;

-- However a request ends, the same transaction counts it.
CREATE TRIGGER counters_of_ended_request AFTER UPDATE OF state ON requests
WHEN NEW.state = 'done' AND OLD.state <> 'done'
BEGIN
    INSERT INTO counters VALUES ('requests', coalesce(NEW.model, NEW.endpoint), coalesce(NEW.failure, 'succeeded'), 9e999, 1, 0)
    ON CONFLICT DO UPDATE SET count = count + 1;

    INSERT INTO counters SELECT 'queue_wait', '', '', min(bound), 1, (NEW.started_at - NEW.created_at) / 1e6
    FROM counter_bounds WHERE metric = 'queue_wait' AND bound >= (NEW.started_at - NEW.created_at) / 1e6
    HAVING min(bound) IS NOT NULL
    ON CONFLICT DO UPDATE SET count = count + 1, sum = sum + excluded.sum;

    INSERT INTO counters SELECT 'e2e', '', '', min(bound), 1, (NEW.finished_at - NEW.created_at) / 1e6
    FROM counter_bounds WHERE NEW.failure IS NULL
        AND metric = 'e2e' AND bound >= (NEW.finished_at - NEW.created_at) / 1e6
    HAVING min(bound) IS NOT NULL
    ON CONFLICT DO UPDATE SET count = count + 1, sum = sum + excluded.sum;
END;

-- One that is refused when it is submitted has ended too.
CREATE TRIGGER counters_of_refused_request AFTER INSERT ON requests WHEN NEW.state = 'done'
BEGIN
    INSERT INTO counters VALUES ('requests', coalesce(NEW.model, NEW.endpoint), NEW.failure, 9e999, 1, 0)
    ON CONFLICT DO UPDATE SET count = count + 1;
END;
