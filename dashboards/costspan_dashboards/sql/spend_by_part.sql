-- One row per step of time and part: with measure 'usd' the parts of the cost of the calls that
-- have a price, with 'tokens' the kinds of token of all calls, each token counted once. The parts
-- sum to the whole: what a price does not break down is a row of its own. With step_seconds 0
-- there is one step, the whole stretch.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String),
--   measure String ('usd' or 'tokens'), step_seconds UInt32
SELECT
    if({step_seconds:UInt32} = 0,
        {since:DateTime64(6, 'UTC')},
        toStartOfInterval(c.started_at, toIntervalSecond(greatest({step_seconds:UInt32}, 1)))) AS step,
    part.1 AS value,
    sum(part.2) AS cost_usd,
    sum(part.3) AS tokens,
    uniqExact(c.trace_id, c.span_id) AS calls
FROM calls AS c FINAL
ARRAY JOIN arrayFilter(
    p -> p.2 != 0 OR p.3 != 0,
    if({measure:String} = 'usd',
        if(c.cost_usd IS NULL, [], arrayPushBack(
            arrayMap((meter, usd) -> (meter::String, usd, 0::Int64),
                mapKeys(c.cost_parts_usd), mapValues(c.cost_parts_usd)),
            ('not split up',
                (ifNull(c.cost_usd, 0) - arraySum(mapValues(c.cost_parts_usd)))::Decimal(18, 12),
                0::Int64))),
        [
            ('input', 0::Decimal(18, 12),
                ifNull(c.input_tokens, 0)::Int64 - ifNull(c.cached_tokens, 0)::Int64
                    - ifNull(c.cache_write_tokens, 0)::Int64),
            ('input read from cache', 0::Decimal(18, 12), ifNull(c.cached_tokens, 0)::Int64),
            ('input written to cache', 0::Decimal(18, 12), ifNull(c.cache_write_tokens, 0)::Int64),
            ('output', 0::Decimal(18, 12),
                ifNull(c.output_tokens, 0)::Int64 - ifNull(c.reasoning_tokens, 0)::Int64),
            ('reasoning', 0::Decimal(18, 12), ifNull(c.reasoning_tokens, 0)::Int64)
        ])) AS part
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
    AND (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR c.model IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
GROUP BY step, value
ORDER BY step, value
