-- A row: what one scope (an empty dimension is all calls) spent in one window, today (day 0) or
-- so many days ago. Calls without a price are counted beside the sum.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), days Array(UInt16),
--   windows_minutes Array(UInt16)
SELECT
    window_minutes,
    day,
    scope.1 AS dimension,
    scope.2 AS value,
    count() AS calls,
    countIf(lacks_price) AS unpriced_calls,
    sum(ifNull(slot_cost_usd, toDecimal64(0, 12))) AS cost_usd,
    sum(pow(ifNull(toFloat64(slot_cost_usd), 0), 2)) AS sum_squared_cost
FROM
(
    SELECT
        intDiv(toUnixTimestamp({until:DateTime('UTC')}) * 1000000 - toUnixTimestamp64Micro(started_at) - 1, 60000000) AS age_minutes,
        intDiv(age_minutes, 1440) AS day,
        cost_usd AS slot_cost_usd,
        unpriced AS lacks_price,
        [
            ('', ''),
            ('feature', toString(feature)),
            ('model', toString(model)),
            ('team', toString(team)),
            ('project', toString(project))
        ] AS scopes
    FROM calls FINAL
    WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
        AND age_minutes % 1440 < 60
        AND (day = 0 OR has({days:Array(UInt16)}, day))
)
ARRAY JOIN {windows_minutes:Array(UInt16)} AS window_minutes
ARRAY JOIN scopes AS scope
WHERE age_minutes % 1440 < window_minutes AND (scope.1 = '' OR scope.2 != '')
GROUP BY window_minutes, day, dimension, value
ORDER BY window_minutes, day, dimension, value
