-- One row per line and whoever has a share in it. At first (`rest` false) each line's dollars go to
-- who used its product, by quantity; what no call accounts for goes to nobody, or is left out where
-- the line has a policy. Then (`rest` true) what was left out goes by that policy. The weights are
-- of now, or of an earlier allocation where those are frozen.
--
-- By largest remainder: each gets the whole pico-dollars of its share, cut off toward minus
-- infinity; those left over go one each to the largest cut off, then weight, then name. What is
-- below a pico-dollar goes to the largest weight. Weights are negative here: the largest sorts first.
-- parameters: allocation_id UUID, run_id UUID, day Date, rest Bool
INSERT INTO allocations
    (allocation_id, run_id, day, project, api_key_id, line_item, kind, rule, team, feature, user, customer, weight, amount_usd)
WITH
    lines AS
    (
        SELECT
            line.project AS project,
            line.api_key_id AS api_key_id,
            line.line_item AS line_item,
            line.rule AS rule,
            line.policy AS policy,
            line.billed_usd - direct.amount_usd AS amount_usd,
            if({rest:Bool}, NULL, line.billed_quantity) AS billed_quantity,
            line.call_quantity AS call_quantity
        FROM allocation_lines AS line
        LEFT JOIN
        (
            SELECT project, api_key_id, line_item, sum(amount_usd) AS amount_usd
            FROM allocations
            WHERE {rest:Bool} AND allocation_id = {allocation_id:UUID} AND day = {day:Date}
            GROUP BY project, api_key_id, line_item
        ) AS direct
            ON direct.project = line.project AND direct.api_key_id = line.api_key_id
            AND direct.line_item = line.line_item
        WHERE allocation_id = {allocation_id:UUID} AND day = {day:Date} AND (policy != '' OR NOT {rest:Bool})
    ),
    fresh_lines AS
    (
        SELECT project, api_key_id, line_item, policy, teams, shares
        FROM allocation_lines
        WHERE allocation_id = {allocation_id:UUID} AND day = {day:Date} AND weights_of = allocation_id
    ),
    weights AS
    (
        -- By quantity.
        SELECT
            project,
            api_key_id,
            line_item,
            team,
            feature,
            user,
            customer,
            sum(quantity) AS weight
        FROM routed_calls(day = {day:Date})
        WHERE NOT {rest:Bool} AND allocation_id = {allocation_id:UUID}
            AND (project, api_key_id, line_item) IN (SELECT project, api_key_id, line_item FROM fresh_lines)
        GROUP BY project, api_key_id, line_item, team, feature, user, customer
        UNION ALL
        -- By the shares that a rule lists.
        SELECT project, api_key_id, line_item, listed.1, '', '', '', toDecimal128(listed.2, 20)
        FROM fresh_lines
        ARRAY JOIN arrayZip(teams, shares) AS listed
        WHERE {rest:Bool}
        UNION ALL
        -- By what was billed directly, in the project of the line or in all.
        SELECT line.project, api_key_id, line_item, team, feature, '', '', toDecimal128(sum(amount_usd), 20)
        FROM (SELECT * FROM fresh_lines WHERE {rest:Bool} AND policy = 'proportional') AS line
        CROSS JOIN
        (
            SELECT project, team, feature, sum(amount_usd) AS amount_usd
            FROM allocations
            WHERE allocation_id = {allocation_id:UUID} AND day = {day:Date} AND kind = 'direct'
            GROUP BY project, team, feature
        ) AS direct
        WHERE line.project IN ('', direct.project)
        GROUP BY line.project, api_key_id, line_item, team, feature
        UNION ALL
        -- Frozen.
        SELECT project, api_key_id, line_item, team, feature, user, customer, weight
        FROM allocations
        WHERE day = {day:Date} AND kind = if({rest:Bool}, 'shared', 'direct')
            AND (allocation_id, project, api_key_id, line_item) IN
            (
                SELECT weights_of, project, api_key_id, line_item
                FROM allocation_lines
                WHERE allocation_id = {allocation_id:UUID} AND day = {day:Date} AND weights_of != allocation_id
            )
    ),
    toInt256('10000000000000000000000000000') AS pico,
    reinterpret(line.amount_usd, 'Int256') AS steps,
    intDiv(steps, pico) - (steps % pico < 0) AS whole,
    -arraySum(part -> part.1, parties.found) AS used,
    units -> toInt256(reinterpret(assumeNotNull(ifNull(units, 0)), 'Int128')) AS counted,
    -- Calls that are in several lines account for no more than was reconciled.
    if(counted(line.call_quantity) > 0, counted(line.call_quantity), greatest(used, 1)) AS seen,
    greatest(counted(line.billed_quantity) - seen, 0) AS unseen,
    if(used = 0, 1, intDiv(used * unseen, seen)) AS rest_weight,
    used + rest_weight AS total,
    arraySort(
        arrayConcat(
            parties.found,
            if(rest_weight > 0, [tuple(-rest_weight, '', '', '', '', true)], [])
        )
    ) AS parts,
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
    {allocation_id:UUID},
    {run_id:UUID},
    {day:Date},
    line.project,
    line.api_key_id,
    line.line_item,
    multiIf(share.1.6, 'unattributed', {rest:Bool}, 'shared', 'direct'),
    if({rest:Bool} OR share.1.6, line.rule, ''),
    share.1.2,
    share.1.3,
    share.1.4,
    share.1.5,
    reinterpret(toInt128(-share.1.1), 'Decimal(38, 20)'),
    reinterpret(share.2, 'Decimal(76, 40)')
FROM lines AS line
LEFT JOIN
(
    SELECT
        project,
        api_key_id,
        line_item,
        groupArray(tuple(-toInt256(reinterpret(weight, 'Int128')), team, feature, user, customer, false)) AS found
    FROM weights
    WHERE weight > 0
    GROUP BY project, api_key_id, line_item
) AS parties
    ON parties.project = line.project AND parties.api_key_id = line.api_key_id
    AND parties.line_item = line.line_item
ARRAY JOIN arrayZip(parts, amounts) AS share
WHERE line.amount_usd != 0 AND (line.policy = '' OR {rest:Bool} OR NOT share.1.6)
SETTINGS do_not_merge_across_partitions_select_final = 1
