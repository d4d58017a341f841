-- One row per step of time and part: with measure 'usd' the parts of the cost of the calls that
-- have a price, with 'tokens' the kinds of token of all calls, each token counted once. The parts
-- sum to the whole: what a price does not break down is a row of its own. With step_seconds 0
-- there is one step, the whole stretch.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), teams Array(String),
--   features Array(String), models Array(String), projects Array(String),
--   by_hour Bool, measure String ('usd' or 'tokens'), step_seconds UInt32
SELECT
    if({step_seconds:UInt32} = 0,
        {since:DateTime64(6, 'UTC')},
        toStartOfInterval(c.started_at, toIntervalSecond(greatest({step_seconds:UInt32}, 1)))) AS step,
    part.1 AS value,
    sum(part.2) AS cost_usd,
    sum(part.3) AS tokens,
    sum(c.part_calls[concat({measure:String}, '/', part.1)]) AS calls
FROM costs(
    since = {since:DateTime64(6, 'UTC')},
    until = {until:DateTime64(6, 'UTC')},
    counted = (
        SELECT groupArray(hour)
        FROM counted_hours(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = {by_hour:Bool})
    )
) AS c
ARRAY JOIN arrayFilter(
    p -> p.2 != 0 OR p.3 != 0,
    if({measure:String} = 'usd',
        arrayPushBack(
            arrayMap((meter, usd) -> (meter::String, usd, 0::Int64),
                mapKeys(c.cost_parts_usd), mapValues(c.cost_parts_usd)),
            ('not split up', c.cost_usd - arraySum(mapValues(c.cost_parts_usd)), 0::Int64)),
        [
            ('input', 0::Decimal(38, 12), (c.input_tokens - c.cached_tokens - c.cache_write_tokens)::Int64),
            ('input read from cache', 0::Decimal(38, 12), c.cached_tokens::Int64),
            ('input written to cache', 0::Decimal(38, 12), c.cache_write_tokens::Int64),
            ('output', 0::Decimal(38, 12), (c.output_tokens - c.reasoning_tokens)::Int64),
            ('reasoning', 0::Decimal(38, 12), c.reasoning_tokens::Int64)
        ])) AS part
WHERE (empty({teams:Array(String)}) OR c.team IN {teams:Array(String)})
    AND (empty({features:Array(String)}) OR c.feature IN {features:Array(String)})
    AND (empty({models:Array(String)}) OR c.model IN {models:Array(String)})
    AND (empty({projects:Array(String)}) OR c.project IN {projects:Array(String)})
GROUP BY step, value
ORDER BY step, value
