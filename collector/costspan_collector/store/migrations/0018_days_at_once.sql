-- One row per source and day that was ever read with success: the newest such reading.
CREATE VIEW IF NOT EXISTS good_readings AS
SELECT *
FROM billing_days
WHERE status = 'ok'
ORDER BY fetched_at DESC, revision DESC
LIMIT 1 BY source, day;

-- One row per allocation of one of the UTC days since <= day < until, call that ended on that day, and
-- meter on which the call used something that is billed in a line of the allocation.
CREATE OR REPLACE VIEW routed_calls AS
SELECT
    route.allocation_id AS allocation_id,
    route.day AS day,
    route.project AS project,
    route.api_key_id AS api_key_id,
    route.line_item AS line_item,
    trace_id,
    span_id,
    team,
    feature,
    user,
    customer,
    quantity
FROM
(
    SELECT
        day,
        trace_id,
        span_id,
        project,
        key_hint,
        model,
        tier,
        context,
        team,
        feature,
        user,
        customer,
        arrayJoin(used) AS entry,
        entry.1 AS meter,
        entry.2 AS quantity
    FROM used_calls(since = {since:Date}, until = {until:Date})
) AS used
INNER JOIN
(
    SELECT * FROM allocation_routes WHERE day >= {since:Date} AND day < {until:Date}
) AS route
    ON used.day = route.day
    AND used.project = route.call_project AND used.key_hint = route.key_hint
    AND used.model = route.model AND used.tier = route.tier
    AND used.context = route.context AND used.meter = route.meter;

-- One row per call of a UTC day and line in whose direct dollars it has a part: what a team,
-- feature, user and customer was billed in a line goes to their calls by quantity, by largest
-- remainder as in the line, so the calls sum to the direct dollars. Of one trace, in 32 hex digits,
-- or of all where trace_id is ''.
CREATE OR REPLACE VIEW billed_calls AS
WITH
    used AS
    (
        SELECT * EXCEPT (allocation_id, day)
        FROM routed_calls(since = {day:Date}, until = {day:Date} + 1)
        WHERE allocation_id IN (SELECT allocation_id FROM current_allocation_runs WHERE day = {day:Date})
    ),
    toInt256('10000000000000000000000000000') AS pico,
    reinterpret(billed.amount_usd, 'Int256') AS steps,
    intDiv(steps, pico) - (steps % pico < 0) AS whole,
    -arraySum(part -> part.1, parts) AS total,
    arrayMap(part -> -part.1 * whole, parts) AS products,
    arrayMap(product -> intDiv(product, total) - (product % total < 0), products) AS floors,
    arraySort(
        (place, product, least) -> tuple(least * total - product, place),
        arrayEnumerate(parts),
        products,
        floors
    ) AS order,
    whole - arraySum(floors) AS spare,
    arraySort((_, place) -> place, arrayMap(rank -> rank <= spare, arrayEnumerate(order)), order) AS extras,
    arrayMap(
        (least, extra, place) -> (least + extra) * pico + if(place = 1, steps - whole * pico, 0),
        floors,
        extras,
        arrayEnumerate(parts)
    ) AS amounts
SELECT
    {day:Date} AS day,
    share.1.2 AS trace_id,
    share.1.3 AS span_id,
    calls.project AS project,
    calls.api_key_id AS api_key_id,
    calls.line_item AS line_item,
    reinterpret(toInt128(-share.1.1), 'Decimal(38, 20)') AS quantity,
    reinterpret(share.2, 'Decimal(76, 40)') AS billed_usd
FROM
(
    SELECT
        project,
        api_key_id,
        line_item,
        team,
        feature,
        user,
        customer,
        arraySort(groupArray(tuple(-toInt256(reinterpret(quantity, 'Int128')), trace_id, span_id))) AS parts
    FROM
    (
        SELECT project, api_key_id, line_item, team, feature, user, customer, trace_id, span_id, sum(quantity) AS quantity
        FROM used
        WHERE {trace_id:String} = ''
            OR (project, api_key_id, line_item, team, feature, user, customer) IN
            (
                SELECT project, api_key_id, line_item, team, feature, user, customer
                FROM used
                WHERE trace_id = unhex({trace_id:String})
            )
        GROUP BY project, api_key_id, line_item, team, feature, user, customer, trace_id, span_id
    )
    GROUP BY project, api_key_id, line_item, team, feature, user, customer
) AS calls
INNER JOIN
(
    SELECT project, api_key_id, line_item, team, feature, user, customer, sum(amount_usd) AS amount_usd
    FROM current_allocations
    WHERE day = {day:Date} AND kind = 'direct'
    GROUP BY project, api_key_id, line_item, team, feature, user, customer
) AS billed
    ON billed.project = calls.project AND billed.api_key_id = calls.api_key_id
    AND billed.line_item = calls.line_item AND billed.team = calls.team
    AND billed.feature = calls.feature AND billed.user = calls.user
    AND billed.customer = calls.customer
ARRAY JOIN arrayZip(parts, amounts) AS share
WHERE {trace_id:String} = '' OR share.1.2 = unhex({trace_id:String});
