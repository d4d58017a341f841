-- A row: what people are to be told of an incident, on one channel, and is not settled. A newer
-- step of the same incident takes the place of an older one (newest = 0).
-- parameters: since DateTime('UTC'), channels Array(String)
WITH tries AS
(
    SELECT
        alert_id,
        sequence,
        channel,
        max(try_number) AS last_try,
        max(at) AS last_at,
        argMax(outcome, (try_number, outcome != 'claimed')) = 'claimed' AS open,
        countIf(outcome IN ('delivered', 'superseded', 'unknown')) AS settled
    FROM notifications
    WHERE at >= {since:DateTime('UTC')}
    GROUP BY alert_id, sequence, channel
)
SELECT
    event.alert_id AS alert_id,
    event.sequence AS sequence,
    event.channel AS channel,
    event.at AS at,
    event.rank = 1 AS newest,
    event.snapshot AS snapshot,
    event.reason AS reason,
    tries.last_try AS last_try,
    if(tries.last_try = 0, NULL, toNullable(tries.last_at)) AS last_at,
    tries.open AS open
FROM
(
    SELECT
        alert_id,
        sequence,
        channel,
        at,
        row_number() OVER
        (
            PARTITION BY incident, channel
            ORDER BY at DESC, severity = 'page' DESC, alert_id = incident DESC, sequence DESC
        ) AS rank,
        snapshot,
        reason
    FROM alert_events FINAL
    ARRAY JOIN {channels:Array(String)} AS channel
    WHERE tells AND at >= {since:DateTime('UTC')}
) AS event
LEFT JOIN tries ON tries.alert_id = event.alert_id AND tries.sequence = event.sequence AND tries.channel = event.channel
WHERE tries.settled = 0
ORDER BY event.at, alert_id, sequence, channel
