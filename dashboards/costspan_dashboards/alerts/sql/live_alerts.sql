-- A row: the latest known alert of what a rule goes on about, from its state or, after a crash
-- between the two writes, from its last step.
-- parameters: none
SELECT argMax(known.snapshot, (known.evaluated_at, known.sequence)) AS snapshot
FROM
(
    SELECT rule, snapshot, evaluated_at, sequence FROM alert_states FINAL
    UNION ALL
    SELECT rule, snapshot, at AS evaluated_at, sequence FROM alert_events FINAL
) AS known
GROUP BY known.rule, JSONExtractString(known.snapshot, 'finding', 'episode') AS episode
ORDER BY known.rule, episode
