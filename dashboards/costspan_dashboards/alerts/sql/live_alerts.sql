-- A row: the latest known alert of each fingerprint, from its state or, after a crash between the
-- two writes, from its last step.
-- parameters: none
SELECT argMax(snapshot, (evaluated_at, sequence)) AS snapshot
FROM
(
    SELECT fingerprint, snapshot, evaluated_at, sequence FROM alert_states FINAL
    UNION ALL
    SELECT JSONExtractString(snapshot, 'fingerprint') AS fingerprint, snapshot, at AS evaluated_at, sequence
    FROM alert_events FINAL
)
GROUP BY fingerprint
ORDER BY fingerprint
