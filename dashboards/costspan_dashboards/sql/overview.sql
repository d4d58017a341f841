-- One row: what happened in one stretch of time.
-- cost_usd is NULL where calls lack a price and none has one; p95_us is of calls that worked.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String)
SELECT
    count() AS calls,
    countIf(c.status = 'error') AS errors,
    if(countIf(c.cost_usd IS NOT NULL) = 0 AND countIf(c.unpriced) > 0, NULL, sum(ifNull(c.cost_usd, 0))) AS cost_usd,
    countIf(c.unpriced) AS unpriced,
    quantileExactIfOrNull(0.95)(c.duration_us, c.status = 'ok') AS p95_us
FROM calls AS c FINAL
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
    AND (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR c.model IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
