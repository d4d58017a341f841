-- One row per call to which a run gives another price, with the price before and after: integers
-- multiplied, and rounded half-even once for each term, as `costspan.pricing` does.
-- A quantity is counted in steps of 1e-20, so pico-dollars are steps * pico / (per * 1e20).
-- parameters: run_id UUID, since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'),
--   thresholds Array(UInt64)
INSERT INTO reprice_calls (run_id, started_at, trace_id, span_id, old, new)
WITH
    toInt256('100000000000000000000') AS unit,
    mapValues(mapFilter((meter, _) -> meter = 'web_search', quantities)) AS searches,
    if(empty(searches), 0, search_block * toUInt64(searches[1])) AS block,
    arrayMap(term -> term.part, terms) AS parts,
    arrayMap(
        term -> multiIf(
            term.meter = '', unit,
            term.meter = 'search_content', if(input_by_worker[1] < block, block * unit, 0),
            toInt256(reinterpret(quantities[term.meter], 'Int128'))
        ),
        terms
    ) AS used,
    (steps, pico, per) -> intDiv(steps * pico, per * unit) AS whole,
    (steps, pico, per) -> 2 * (steps * pico - whole(steps, pico, per) * per * unit) AS twice_the_rest,
    (steps, pico, per) -> whole(steps, pico, per) + (
        twice_the_rest(steps, pico, per) > per * unit
        OR twice_the_rest(steps, pico, per) = per * unit AND whole(steps, pico, per) % 2 = 1
    ) AS rounded,
    arrayMap((steps, term) -> rounded(steps, term.pico, term.per), used, terms) AS paid,
    arrayMap((steps, term) -> rounded(steps, term.list_pico, term.list_per), used, terms) AS listed,
    greatest(arraySum(paid), arraySum(listed)) > 999999999999999999 AS is_too_much,
    if(status = 'priced' AND is_too_much, 'invalid_usage', status) AS new_status,
    new_status = 'priced' AS is_priced,
    pico -> reinterpret(toInt64(pico), 'Decimal(18, 12)') AS dollars,
    arrayDistinct(arrayFilter((part, steps) -> steps != 0, parts, used)) AS charged,
    arrayMap(name -> dollars(arraySum((part, pico) -> if(part = name, pico, 0), parts, paid)), charged) AS charges,
    if(is_priced, dollars(arraySum(paid)), NULL) AS new_cost_usd,
    if(is_priced, dollars(arraySum(listed)), NULL) AS new_list_cost_usd,
    if(is_priced, mapFromArrays(charged, charges), map()) AS new_parts_usd,
    if(is_priced, overrides, []) AS new_overrides
SELECT
    {run_id:UUID},
    started_at,
    trace_id,
    span_id,
    tuple(cost_usd, list_cost_usd, cost_parts_usd, price_status, price_book, price_path, price_overrides),
    tuple(new_cost_usd, new_list_cost_usd, new_parts_usd, new_status, book, path, new_overrides)
FROM
(
    SELECT
        *,
        arrayMap(
            input -> arrayCount(threshold -> input > threshold, {thresholds:Array(UInt64)}),
            input_by_worker
        ) AS buckets,
        sipHash128(model, tier, host, project, has_usage, meters, buckets) AS kind
    FROM priceable_calls
    WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
) AS c
ASOF INNER JOIN (SELECT * FROM reprice_rates WHERE run_id = {run_id:UUID}) AS r
    ON c.kind = r.kind AND c.started_at >= r.valid_from
WHERE
    tuple(cost_usd, list_cost_usd, mapSort(cost_parts_usd), price_status, price_book, price_path, price_overrides)
    != tuple(new_cost_usd, new_list_cost_usd, mapSort(new_parts_usd), new_status, book, path, new_overrides)
