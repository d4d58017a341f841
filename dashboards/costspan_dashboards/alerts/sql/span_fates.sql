-- A row: what became of the spans of a stretch of time, in whole hours, and how many files of them
-- lie in the quarantine of collectors that told of it in its last minutes.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT
    refused_spans,
    accepted_spans,
    (
        -- What an app gave up it tells as a number that only grows.
        SELECT toUInt64(sum(given_up - before))
        FROM
        (
            SELECT
                max(queue_full) + max(failed) AS given_up,
                maxIf(queue_full, hour < toStartOfHour({since:DateTime('UTC')}))
                    + maxIf(failed, hour < toStartOfHour({since:DateTime('UTC')})) AS before
            FROM sender_counts
            WHERE hour >= {since:DateTime('UTC')} - INTERVAL 30 DAY AND hour < {until:DateTime('UTC')}
            GROUP BY service_name, sender
        )
    ) AS lost_spans,
    (
        SELECT toUInt64(sum(files))
        FROM
        (
            SELECT argMax(value, at) AS files
            FROM collector_metrics
            WHERE name = 'costspan_spool_quarantined' AND at >= {until:DateTime('UTC')} - INTERVAL 10 MINUTE AND at < {until:DateTime('UTC')}
            GROUP BY collector
        )
    ) AS quarantined_files
FROM
(
    SELECT
        sumIf(spans, fate = 'refused') AS refused_spans,
        sumIf(spans, fate IN ('calls', 'http_attempts')) AS accepted_spans
    FROM span_counts
    WHERE hour >= toStartOfHour({since:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
)
