-- One row per UTC hour that has calls or rollups, without the days whose calls were dropped.
-- parameters: none
SELECT hour
FROM
(
    SELECT toStartOfHour(started_at) AS hour FROM calls GROUP BY hour
    UNION DISTINCT
    SELECT hour FROM cost_hourly GROUP BY hour
    UNION DISTINCT
    SELECT toStartOfHour(slot) AS hour FROM latency_5m GROUP BY hour
    UNION DISTINCT
    SELECT toStartOfHour(slot) AS hour FROM signals_5m GROUP BY hour
    UNION DISTINCT
    SELECT day AS hour FROM latency_daily WHERE day NOT IN (SELECT toStartOfDay(slot) FROM latency_5m)
)
WHERE toDate(hour) NOT IN (SELECT day FROM dropped_days)
ORDER BY hour
