-- One row per call to which a run gives another price, with the price before and after: integers
-- multiplied, and rounded half-even once for each term, as `costspan.pricing` does.
-- A quantity is counted in steps of 1e-20, so pico-dollars are quantity * pico / (per * 1e20).
-- parameters: run_id UUID, since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'),
--   thresholds Array(UInt64)
INSERT INTO reprice_calls (run_id, started_at, trace_id, span_id, old, new)
WITH
    reinterpret(toDecimal128(1, 20), 'Int128') AS one,
    arrayMap(term -> tupleElement(term, 'part'), terms) AS names,
    mapValues(mapFilter((meter, _) -> meter = 'web_search', quantities)) AS searches,
    if(empty(searches), 0, search_block * toUInt64(searches[1])) AS block,
    arrayMap(
        term -> multiIf(
            tupleElement(term, 'meter') = '', toInt256(one),
            tupleElement(term, 'meter') = 'search_content', if(input_by_worker[1] < block, block * toInt256(one), 0),
            toInt256(reinterpret(quantities[tupleElement(term, 'meter')], 'Int128'))
        ),
        terms
    ) AS used,
    (steps, pico, per) -> intDiv(steps * pico, per * one) AS below,
    (steps, pico, per) -> steps * pico - below(steps, pico, per) * per * one AS rest,
    (steps, pico, per) -> below(steps, pico, per) + (
        2 * rest(steps, pico, per) > per * one
        OR 2 * rest(steps, pico, per) = per * one AND below(steps, pico, per) % 2 = 1
    ) AS rounded,
    arrayMap((steps, term) -> rounded(steps, tupleElement(term, 'pico'), tupleElement(term, 'per')), used, terms) AS paid,
    arrayMap((steps, term) -> rounded(steps, tupleElement(term, 'list_pico'), tupleElement(term, 'list_per')), used, terms) AS listed,
    toInt256(999999999999999999) AS most,
    multiIf(
        status != 'priced', status,
        arraySum(paid) > most OR arraySum(listed) > most, 'invalid_usage',
        price_status = 'estimated', 'estimated',
        status
    ) AS new_status,
    new_status IN ('priced', 'estimated') AS is_priced,
    arrayFilter((name, steps) -> steps != 0, names, used) AS parts,
    pico -> reinterpret(toInt64(pico), 'Decimal(18, 12)') AS dollars
SELECT
    {run_id:UUID},
    started_at,
    trace_id,
    span_id,
    tuple(cost_usd, list_cost_usd, cost_parts_usd, price_status, price_book, price_path, price_overrides) AS old,
    tuple(
        if(is_priced, dollars(arraySum(paid)), NULL),
        if(is_priced, dollars(arraySum(listed)), NULL),
        if(
            is_priced,
            mapFromArrays(
                arrayDistinct(parts),
                arrayMap(
                    part -> dollars(arraySum((name, pico) -> if(name = part, pico, 0), names, paid)),
                    arrayDistinct(parts)
                )
            ),
            map()
        ),
        new_status,
        book,
        path,
        if(is_priced, overrides, [])
    )::Tuple(cost_usd Nullable(Decimal(18, 12)), list_cost_usd Nullable(Decimal(18, 12)), parts Map(LowCardinality(String), Decimal(18, 12)), status LowCardinality(String), book LowCardinality(String), path LowCardinality(String), overrides Array(LowCardinality(String))) AS new
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
WHERE (cost_usd, list_cost_usd, mapSort(cost_parts_usd), price_status, price_book, price_path, price_overrides)
    != (new.cost_usd, new.list_cost_usd, mapSort(new.parts), new.status, new.book, new.path, new.overrides)
