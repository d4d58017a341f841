-- One row: what became of the spans that came since a moment, in whole hours. As `span_balance` has it,
-- but of the spans only what came since is read: the last delivery of a span that came is among it.
-- parameters: since DateTime64(6, 'UTC')
WITH
    toStartOfHour({since:DateTime64(6, 'UTC')}) + INTERVAL 1 HOUR AS first_hour,
    (
        SELECT uniqExact(toStartOfFiveMinutes(started_at), trace_id, span_id)
        FROM calls
        WHERE received_at >= first_hour
    ) AS calls_kept,
    (
        SELECT uniqExact(toStartOfFiveMinutes(started_at), trace_id, span_id)
        FROM http_attempts
        WHERE received_at >= first_hour
    ) AS attempts_kept,
    (
        SELECT sum(dropped)
        FROM
        (
            SELECT max(queue_full) + max(failed) - maxIf(queue_full, hour < first_hour) - maxIf(failed, hour < first_hour) AS dropped
            FROM sender_counts
            GROUP BY service_name, sender
        )
    ) AS dropped
SELECT
    toUInt64(sum(spans)) AS received,
    toUInt64(sumIf(spans, fate = 'refused')) AS refused,
    toInt64(sumIf(spans, fate IN ('calls', 'http_attempts'))) - calls_kept - attempts_kept AS duplicates,
    toUInt64(ifNull(dropped, 0)) AS dropped_by_apps
FROM span_counts
WHERE hour >= first_hour
