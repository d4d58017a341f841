-- What a bill came to for whom. A line is a row of recon_lines: a day, project, key and line item.
-- Its dollars go to the calls that used its product, by the quantity they used of it; what no call
-- accounts for goes by a rule, or to nobody. The shares of a line are its dollars, to the last digit.

-- One row per day and time it was shared out, written last: it makes the rows of its allocation_id
-- count. Weights that are frozen hold for every later bill of the day.
CREATE TABLE IF NOT EXISTS allocation_runs
(
    allocation_id    UUID,
    day              Date,
    run_id           UUID,                      -- of recon_runs: the lines that were shared out
    run_at           DateTime64(6, 'UTC'),
    written_at       DateTime64(6, 'UTC') DEFAULT now64(6),
    frozen           Bool,
    policy_sha256    FixedString(64),
    billed_usd       Decimal(76, 40),
    direct_usd       Decimal(76, 40),
    shared_usd       Decimal(76, 40),
    unattributed_usd Decimal(76, 40)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, run_at, allocation_id)
SETTINGS fsync_after_insert = 1;

-- One row per line: its dollars, the quantity they are for and how much of it calls account for, as
-- reconciled (NULL where neither can be told), and the policy for the rest: none (''), 'listed', by the
-- shares of some teams, or 'proportional', by what the teams and features of the project were billed
-- directly, or those of all projects where the line has none. `weights_of` is its own allocation_id
-- where the weights are of this time, else that of the allocation from which they are kept.
CREATE TABLE IF NOT EXISTS allocation_lines
(
    allocation_id   UUID,
    day             Date,
    project         LowCardinality(String),
    api_key_id      LowCardinality(String),
    line_item       LowCardinality(String),
    billed_usd      Decimal(76, 40),
    billed_quantity Nullable(Decimal(38, 20)),
    call_quantity   Nullable(Decimal(38, 20)),
    rule            LowCardinality(String),
    policy          LowCardinality(String),
    teams           Array(LowCardinality(String)),
    shares          Array(UInt64),
    weights_of      UUID
)
ENGINE = MergeTree
PARTITION BY allocation_id
ORDER BY (day, project, api_key_id, line_item)
SETTINGS fsync_after_insert = 1;

-- One row per kind of call and meter on a day: the line that its quantity is billed in.
CREATE TABLE IF NOT EXISTS allocation_routes
(
    allocation_id UUID,
    day           Date,
    call_project  LowCardinality(String),
    key_hint      LowCardinality(String),
    model         LowCardinality(String),
    tier          LowCardinality(String),
    context       LowCardinality(String),
    meter         LowCardinality(String),
    project       LowCardinality(String),
    api_key_id    LowCardinality(String),
    line_item     LowCardinality(String)
)
ENGINE = MergeTree
PARTITION BY allocation_id
ORDER BY (day, call_project, key_hint, model, tier, context, meter)
SETTINGS fsync_after_insert = 1;

-- One row per line and whoever has a share in it. Each share is whole pico-dollars, but one of a
-- line, which has what is below.
CREATE TABLE IF NOT EXISTS allocations
(
    allocation_id UUID,
    run_id        UUID                   CODEC(ZSTD(1)),  -- of recon_runs
    day           Date                   CODEC(ZSTD(1)),
    project       LowCardinality(String) CODEC(ZSTD(1)),
    api_key_id    LowCardinality(String) CODEC(ZSTD(1)),
    line_item     LowCardinality(String) CODEC(ZSTD(1)),
    kind          Enum8('direct' = 1, 'shared' = 2, 'unattributed' = 3) CODEC(ZSTD(1)),
    rule          LowCardinality(String) CODEC(ZSTD(1)),  -- for what no call accounts for
    team          LowCardinality(String) CODEC(ZSTD(1)),
    feature       LowCardinality(String) CODEC(ZSTD(1)),
    user          String                 CODEC(ZSTD(1)),
    customer      String                 CODEC(ZSTD(1)),
    weight        Decimal(38, 20)        CODEC(ZSTD(1)),  -- units used; in a shared row, dollars or shares
    amount_usd    Decimal(76, 40)        CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY allocation_id
ORDER BY (day, project, api_key_id, line_item, kind, team, feature)
SETTINGS fsync_after_insert = 1;

-- The newest allocation of each day.
CREATE VIEW IF NOT EXISTS current_allocation_runs AS
SELECT *
FROM allocation_runs
WHERE (day, allocation_id) IN (
    SELECT day, argMax(allocation_id, (run_at, written_at)) FROM allocation_runs GROUP BY day
);

-- The shares of the newest allocation of each day.
CREATE VIEW IF NOT EXISTS current_allocations AS
SELECT *
FROM allocations
WHERE (day, allocation_id) IN (
    SELECT day, argMax(allocation_id, (run_at, written_at)) FROM allocation_runs GROUP BY day
);

-- One row per allocation of a UTC day, call that ended on it, and meter on which the call used
-- something that is billed in a line of the allocation.
CREATE VIEW IF NOT EXISTS routed_calls AS
SELECT
    route.allocation_id AS allocation_id,
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
    FROM used_calls(since = {day:Date}, until = {day:Date} + 1)
) AS used
INNER JOIN (SELECT * FROM allocation_routes WHERE day = {day:Date}) AS route
    ON used.project = route.call_project AND used.key_hint = route.key_hint
    AND used.model = route.model AND used.tier = route.tier
    AND used.context = route.context AND used.meter = route.meter;

-- One row per call of a UTC day and line in whose direct dollars it has a part: what a team,
-- feature, user and customer was billed in a line goes to their calls by quantity, by largest
-- remainder as in the line, so the calls sum to the direct dollars. Of one trace, in 32 hex digits,
-- or of all where trace_id is ''.
CREATE VIEW IF NOT EXISTS billed_calls AS
WITH
    used AS
    (
        SELECT * EXCEPT allocation_id
        FROM routed_calls(day = {day:Date})
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
