-- One row per HTTP attempt of a trace, in order of start.
-- parameters: trace_id String (32 hex digits)
WITH
    (SELECT min(started_at) FROM http_attempts WHERE trace_id = unhex({trace_id:String})) AS first_start,
    (SELECT max(started_at) FROM http_attempts WHERE trace_id = unhex({trace_id:String})) AS last_start
SELECT
    a.started_at AS started_at,
    lower(hex(a.span_id)) AS span_id,
    lower(hex(a.parent_span_id)) AS parent_span_id,
    a.attempt AS attempt,
    a.method AS method,
    a.server_address AS server_address,
    a.http_status AS http_status,
    a.error_type AS error_type,
    a.duration_us AS duration_us
FROM http_attempts AS a FINAL
WHERE a.started_at >= first_start AND a.started_at <= last_start
    AND a.trace_id = unhex({trace_id:String})
ORDER BY a.started_at, a.attempt
LIMIT 5000
