-- One row per witness of spend on days in `since` <= day < `until`: the bill as it was read before,
-- and the spans of days before `there_before`. None where it saw less than `least_usd`.
-- parameters: since Date, until Date, there_before Date, least_usd Decimal(18, 12)
SELECT known_from, min(day) AS first_day, max(day) AS last_day, sum(usd) AS spent_usd
FROM
(
    SELECT 'the bill read before' AS known_from, day, assumeNotNull(billed_usd) AS usd
    FROM
    (
        SELECT day, billed_usd
        FROM good_readings
        WHERE source = 'costs' AND day >= {since:Date} AND day < {until:Date}
    )
    WHERE billed_usd > 0
    UNION ALL
    SELECT
        'the app' AS known_from,
        toDate(started_at + toIntervalMicrosecond(duration_us), 'UTC') AS day,
        toDecimal256(sum(cost_usd), 40) AS usd
    FROM calls FINAL
    WHERE
        started_at >= {since:Date} - INTERVAL 1 DAY
        AND started_at < {until:Date}
        AND provider IN ('', 'openai')
        AND cost_usd > 0
    GROUP BY day
    HAVING day >= {since:Date} AND day < least({until:Date}, {there_before:Date})
)
GROUP BY known_from
HAVING spent_usd >= {least_usd:Decimal(18, 12)}
ORDER BY spent_usd DESC
