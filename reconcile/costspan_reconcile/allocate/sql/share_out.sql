-- One row per line and whoever has a share in it, of the allocations of some days, one of each. At
-- first (`rest` false) each line's dollars go to who used its product, by quantity; what no call
-- accounts for goes to nobody, or is left out where the line has a policy. Then (`rest` true) what was
-- left out goes by that policy. The weights are of now, or of an earlier allocation where those are
-- frozen.
--
-- By largest remainder: each gets the whole pico-dollars of its share, cut off toward minus
-- infinity; those left over go one each to the largest cut off, then weight, then name. What is
-- below a pico-dollar goes to the largest weight. Weights are negative here: the largest sorts first.
-- parameters: allocation_ids Array(UUID), run_ids Array(UUID), since Date, until Date, rest Bool
INSERT INTO allocations
    (allocation_id, run_id, day, project, api_key_id, line_item, kind, rule, team, feature, user, customer, weight, amount_usd)
WITH
    of_these AS
    (
        SELECT *
        FROM allocation_lines
        WHERE day >= {since:Date} AND day < {until:Date} AND allocation_id IN {allocation_ids:Array(UUID)}
    ),
    billed_directly AS
    (
        SELECT allocation_id, project, api_key_id, line_item, team, feature, amount_usd
        FROM allocations
        WHERE {rest:Bool} AND day >= {since:Date} AND day < {until:Date} AND kind = 'direct'
            AND allocation_id IN {allocation_ids:Array(UUID)}
    ),
    lines AS
    (
        SELECT
            line.allocation_id AS allocation_id,
            line.day AS day,
            line.project AS project,
            line.api_key_id AS api_key_id,
            line.line_item AS line_item,
            line.rule AS rule,
            line.policy AS policy,
            line.billed_usd - direct.amount_usd AS amount_usd,
            if({rest:Bool}, NULL, line.billed_quantity) AS billed_quantity,
            line.call_quantity AS call_quantity
        FROM of_these AS line
        LEFT JOIN
        (
            SELECT allocation_id, project, api_key_id, line_item, sum(amount_usd) AS amount_usd
            FROM billed_directly
            GROUP BY allocation_id, project, api_key_id, line_item
        ) AS direct
            ON direct.allocation_id = line.allocation_id AND direct.project = line.project
            AND direct.api_key_id = line.api_key_id AND direct.line_item = line.line_item
        WHERE policy != '' OR NOT {rest:Bool}
    ),
    weights AS
    (
        -- By quantity.
        SELECT
            allocation_id,
            project,
            api_key_id,
            line_item,
            team,
            feature,
            user,
            customer,
            sum(quantity) AS weight
        FROM routed_calls(since = {since:Date}, until = {until:Date})
        WHERE NOT {rest:Bool} AND (allocation_id, project, api_key_id, line_item) IN
            (
                SELECT allocation_id, project, api_key_id, line_item
                FROM of_these
                WHERE weights_of = allocation_id
            )
        GROUP BY allocation_id, project, api_key_id, line_item, team, feature, user, customer
        UNION ALL
        -- By the shares that a rule lists.
        SELECT allocation_id, project, api_key_id, line_item, listed.1, '', '', '', toDecimal128(listed.2, 20)
        FROM of_these
        ARRAY JOIN arrayZip(teams, shares) AS listed
        WHERE {rest:Bool} AND weights_of = allocation_id
        UNION ALL
        -- By what was billed directly, in the project of the line or in all.
        SELECT
            line.allocation_id,
            line.project,
            line.api_key_id,
            line.line_item,
            team,
            feature,
            '',
            '',
            toDecimal128(sum(amount_usd), 20)
        FROM (SELECT * FROM of_these WHERE {rest:Bool} AND policy = 'proportional' AND weights_of = allocation_id) AS line
        INNER JOIN
        (
            SELECT allocation_id, project, team, feature, sum(amount_usd) AS amount_usd
            FROM billed_directly
            GROUP BY allocation_id, project, team, feature
        ) AS direct ON direct.allocation_id = line.allocation_id
        WHERE line.project IN ('', direct.project)
        GROUP BY line.allocation_id, line.project, line.api_key_id, line.line_item, team, feature
        UNION ALL
        -- Frozen.
        SELECT
            line.allocation_id,
            line.project,
            line.api_key_id,
            line.line_item,
            team,
            feature,
            user,
            customer,
            weight
        FROM allocations AS kept
        INNER JOIN (SELECT * FROM of_these WHERE weights_of != allocation_id) AS line
            ON line.weights_of = kept.allocation_id AND line.project = kept.project
            AND line.api_key_id = kept.api_key_id AND line.line_item = kept.line_item
        WHERE kept.day >= {since:Date} AND kept.day < {until:Date}
            AND kept.kind = if({rest:Bool}, 'shared', 'direct')
    ),
    units -> toInt256(reinterpret(assumeNotNull(ifNull(units, 0)), 'Int128')) AS counted,
    toInt256('10000000000000000000000000000') AS pico,
    -- Each step has a SELECT of its own, or the engine would expand all before it at each mention.
    used AS
    (
        SELECT
            line.* EXCEPT (amount_usd, billed_quantity, call_quantity),
            reinterpret(line.amount_usd, 'Int256') AS steps,
            intDiv(steps, pico) - (steps % pico < 0) AS whole,
            parties.found AS found,
            -arraySum(part -> part.1, found) AS used,
            counted(line.billed_quantity) AS billed,
            counted(line.call_quantity) AS called,
            -- Calls that are in several lines account for no more than was reconciled.
            if(called > 0, called, greatest(used, 1)) AS seen
        FROM lines AS line
        LEFT JOIN
        (
            SELECT
                allocation_id,
                project,
                api_key_id,
                line_item,
                groupArray(tuple(-toInt256(reinterpret(weight, 'Int128')), team, feature, user, customer, false)) AS found
            FROM weights
            WHERE weight > 0
            GROUP BY allocation_id, project, api_key_id, line_item
        ) AS parties
            ON parties.allocation_id = line.allocation_id AND parties.project = line.project
            AND parties.api_key_id = line.api_key_id AND parties.line_item = line.line_item
        WHERE line.amount_usd != 0
    ),
    rests AS
    (
        SELECT *, if(used = 0, 1, intDiv(used * greatest(billed - seen, 0), seen)) AS rest_weight FROM used
    ),
    weighed AS
    (
        SELECT
            *,
            used + rest_weight AS total,
            arraySort(
                arrayConcat(found, if(rest_weight > 0, [tuple(-rest_weight, '', '', '', '', true)], []))
            ) AS parts,
            arrayMap(part -> -part.1 * whole, parts) AS products
        FROM rests
    ),
    cut AS
    (
        SELECT
            *,
            arrayMap(product -> intDiv(product, total) - (product % total < 0), products) AS floors
        FROM weighed
    ),
    ordered AS
    (
        SELECT
            *,
            arraySort(
                (place, product, least) -> tuple(least * total - product, place),
                arrayEnumerate(parts),
                products,
                floors
            ) AS order,
            whole - arraySum(floors) AS spare
        FROM cut
    ),
    shared AS
    (
        SELECT
            *,
            arraySort((_, place) -> place, arrayMap(rank -> rank <= spare, arrayEnumerate(order)), order) AS extras,
            arrayMap(
                (least, extra, place) -> (least + extra) * pico + if(place = 1, steps - whole * pico, 0),
                floors,
                extras,
                arrayEnumerate(parts)
            ) AS amounts
        FROM ordered
    )
SELECT
    allocation_id,
    {run_ids:Array(UUID)}[indexOf({allocation_ids:Array(UUID)}, allocation_id)],
    day,
    project,
    api_key_id,
    line_item,
    multiIf(share.1.6, 'unattributed', {rest:Bool}, 'shared', 'direct'),
    if({rest:Bool} OR share.1.6, rule, ''),
    share.1.2,
    share.1.3,
    share.1.4,
    share.1.5,
    reinterpret(toInt128(-share.1.1), 'Decimal(38, 20)'),
    reinterpret(share.2, 'Decimal(76, 40)')
FROM shared
ARRAY JOIN arrayZip(parts, amounts) AS share
WHERE policy = '' OR {rest:Bool} OR NOT share.1.6
SETTINGS do_not_merge_across_partitions_select_final = 1, max_partitions_per_insert_block = 0
