-- A row: what one feature and model did in a stretch of time. The dollars are for a gauge, so a
-- float will do; pages and bills read the decimal.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
SELECT
    feature,
    model,
    count() AS calls,
    countIf(status = 'error') AS failed_calls,
    countIf(unpriced) AS unpriced_calls,
    toFloat64(sum(ifNull(c.cost_usd, 0))) AS spend_usd
FROM calls AS c FINAL
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
GROUP BY feature, model
ORDER BY feature, model
