-- A row: a step of an alert that people are to be told, on one channel, which is not settled.
-- A newer step of the same alert takes the place of an older one (newest = 0).
-- parameters: since DateTime('UTC'), channels Array(String)
WITH tries AS
(
    SELECT
        alert_id,
        sequence,
        channel,
        max(try_number) AS last_try,
        max(at) AS last_at,
        countIf(outcome IN ('delivered', 'superseded')) AS settled
    FROM notifications
    WHERE at >= {since:DateTime('UTC')}
    GROUP BY alert_id, sequence, channel
)
SELECT
    event.alert_id AS alert_id,
    event.sequence AS sequence,
    event.channel AS channel,
    event.newest AS newest,
    event.snapshot AS snapshot,
    event.reason AS reason,
    tries.last_try AS last_try,
    if(tries.last_try = 0, NULL, toNullable(tries.last_at)) AS last_at
FROM
(
    SELECT
        alert_id,
        sequence,
        channel,
        sequence = max(sequence) OVER (PARTITION BY alert_id, channel) AS newest,
        snapshot,
        reason
    FROM alert_events FINAL
    ARRAY JOIN {channels:Array(String)} AS channel
    WHERE tells AND at >= {since:DateTime('UTC')}
) AS event
LEFT JOIN tries ON tries.alert_id = event.alert_id AND tries.sequence = event.sequence AND tries.channel = event.channel
WHERE tries.settled = 0
ORDER BY alert_id, sequence, channel
