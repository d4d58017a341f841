-- A call that two instrumentations saw, say a framework's and ours, is two rows and one bill. The
-- row of one of them is written again as superseded: FINAL leaves it out of everything that is
-- counted, and without FINAL it can still be read. No `*` holds this column. The engine of a table
-- cannot be altered, so its parts are linked into a new one.
DROP TABLE IF EXISTS calls_next SYNC;
ALTER TABLE calls ADD COLUMN IF NOT EXISTS superseded UInt8 MATERIALIZED 0 CODEC(ZSTD(1));
CREATE TABLE calls_next AS calls
ENGINE = ReplacingMergeTree(ingest_id, superseded)
PARTITION BY toYYYYMMDD(started_at)
PRIMARY KEY toStartOfFiveMinutes(started_at)
ORDER BY (toStartOfFiveMinutes(started_at), trace_id, span_id)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_free_disk_bytes_to_perform_insert = 268435456,
    ttl_only_drop_parts = 1;
ALTER TABLE calls_next ATTACH PARTITION ALL FROM calls;
EXCHANGE TABLES calls AND calls_next;
DROP TABLE calls_next SYNC;

-- One row per call of a stretch that is the same one as a child of its span, and that is counted
-- still. The same one: the child lies within it in time, give or take a second, another
-- instrumentation saw it, and kind, model and id of the response agree as far as both tell. Two
-- spans of one instrumentation are the same call only where both name the same response.
CREATE VIEW IF NOT EXISTS doubles AS
WITH seen AS
(
    SELECT
        trace_id,
        span_id,
        any(parent_span_id) AS parent,
        any(started_at) AS start,
        any(started_at + toIntervalMicrosecond(duration_us)) AS end,
        any(scope_name) AS scope,
        any(response_id) AS response,
        any(multiIf(
            operation IN ('chat', 'completion', 'text_completion', 'generate_content', 'responses'), 'text',
            operation = 'embedding', 'embeddings',
            operation)) AS kind,
        arrayFilter(m -> m != '', arrayMap(
            m -> replaceRegexpOne(lower(splitByChar('/', m)[-1]), '-(\\d{4}-\\d{2}-\\d{2}|\\d{4})$', ''),
            [any(request_model::String), any(response_model::String)])) AS models,
        max(superseded) AS marked
    FROM calls
    WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
        AND trace_id IN
        (
            SELECT trace_id
            FROM calls
            WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
                AND scope_name != 'costspan'
        )
    GROUP BY trace_id, span_id
)
SELECT DISTINCT trace_id, outside.span_id AS span_id, outside.start AS started_at
FROM seen AS outside
INNER JOIN seen AS inside ON inside.trace_id = outside.trace_id AND inside.parent = outside.span_id
WHERE inside.span_id != outside.span_id
    AND inside.start >= outside.start - INTERVAL 1 SECOND
    AND inside.end <= outside.end + INTERVAL 1 SECOND
    AND (inside.kind = outside.kind OR inside.kind = '' OR outside.kind = '')
    AND (hasAny(inside.models, outside.models) OR empty(inside.models) OR empty(outside.models))
    AND (inside.response = outside.response OR inside.response = '' OR outside.response = '')
    AND (inside.scope != outside.scope
         OR inside.response = outside.response AND inside.response != '' AND inside.scope != 'costspan')
    AND NOT outside.marked;

-- By part of the cost: its dollars, and how many calls have it. `part_calls` has kinds of token too:
-- its keys are usd/PART and tokens/KIND. What a price does not break down has no dollars of its
-- own: they are the cost less the parts.
ALTER TABLE cost_hourly ADD COLUMN IF NOT EXISTS
    cost_parts_usd Map(LowCardinality(String), Decimal(38, 12)) CODEC(ZSTD(1)) AFTER list_cost_usd;
ALTER TABLE cost_hourly ADD COLUMN IF NOT EXISTS
    part_calls Map(LowCardinality(String), UInt64) CODEC(ZSTD(1)) AFTER cost_parts_usd;

-- One row per call of some whole hours, each once, as the rollups see it.
CREATE OR REPLACE VIEW calls_of_hours AS
WITH
    ifNull(c.cost_usd, 0) - arraySum(mapValues(c.cost_parts_usd)) AS unsplit_usd,
    arrayConcat(
        arrayMap(part -> concat('usd/', part), mapKeys(cost_parts_usd)),
        if(unsplit_usd = 0, [], ['usd/not split up']),
        arrayFilter((kind, tokens) -> tokens != 0,
            ['tokens/input', 'tokens/input read from cache', 'tokens/input written to cache', 'tokens/output', 'tokens/reasoning'],
            [
                input_tokens - cached_tokens - cache_write_tokens,
                cached_tokens,
                cache_write_tokens,
                output_tokens - reasoning_tokens,
                reasoning_tokens
            ])
    ) AS kinds
SELECT
    started_at,
    service_name,
    environment,
    project,
    team,
    feature,
    model,
    response_tier,
    user,
    toUInt64(1) AS calls,
    toUInt64(c.status = 'error') AS errors,
    toUInt64(c.cost_usd IS NOT NULL) AS priced_calls,
    toUInt64(c.unpriced) AS unpriced_calls,
    ifNull(c.input_tokens, 0) AS input_tokens,
    ifNull(c.cached_tokens, 0) AS cached_tokens,
    ifNull(c.cache_write_tokens, 0) AS cache_write_tokens,
    ifNull(c.output_tokens, 0) AS output_tokens,
    ifNull(c.reasoning_tokens, 0) AS reasoning_tokens,
    toDecimal128(ifNull(c.cost_usd, 0), 12) AS cost_usd,
    toDecimal128(ifNull(c.list_cost_usd, 0), 12) AS list_cost_usd,
    mapFilter((part, usd) -> usd != 0, c.cost_parts_usd)::Map(LowCardinality(String), Decimal(38, 12)) AS cost_parts_usd,
    mapFromArrays(kinds, arrayWithConstant(length(kinds), 1))::Map(LowCardinality(String), UInt64) AS part_calls,
    duration_us,
    time_to_first_chunk_us
FROM calls AS c FINAL
WHERE started_at >= arrayMin({hours:Array(DateTime('UTC'))})
    AND started_at < arrayMax({hours:Array(DateTime('UTC'))}) + 3600
    AND toStartOfFiveMinutes(started_at) IN (
        SELECT arrayJoin({hours:Array(DateTime('UTC'))}) + arrayJoin(range(0, 3600, 300))
    );

-- One row per hour and kind of call, or per call in the hours that are `counted`: those that
-- counted_hours names, asked once so that both halves agree. A sum of these rows is the sum of the
-- calls, at any moment. Only rows of calls tell the user.
CREATE OR REPLACE VIEW costs AS
SELECT
    toDateTime64(hour, 6, 'UTC') AS started_at,
    service_name,
    environment,
    project,
    team,
    feature,
    model,
    response_tier,
    '' AS user,
    calls,
    errors,
    priced_calls,
    unpriced_calls,
    input_tokens,
    cached_tokens,
    cache_write_tokens,
    output_tokens,
    reasoning_tokens,
    cost_usd,
    list_cost_usd,
    cost_parts_usd,
    part_calls
FROM cost_hourly FINAL
WHERE hour >= {since:DateTime64(6, 'UTC')} AND hour + INTERVAL 1 HOUR <= {until:DateTime64(6, 'UTC')}
    AND hour NOT IN {counted:Array(DateTime('UTC'))}
UNION ALL
SELECT * EXCEPT (duration_us, time_to_first_chunk_us)
FROM calls_of_hours(hours = {counted:Array(DateTime('UTC'))})
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')};

-- One row per UTC day and kind of call: latency_5m once more, since to merge the five minutes of a
-- month takes as long as to read its calls.
CREATE TABLE IF NOT EXISTS latency_daily
(
    day              DateTime('UTC')        CODEC(Delta, ZSTD(1)),
    service_name     LowCardinality(String) CODEC(ZSTD(1)),
    feature          LowCardinality(String) CODEC(ZSTD(1)),
    model            LowCardinality(String) CODEC(ZSTD(1)),
    calls            UInt64                 CODEC(T64, ZSTD(1)),
    errors           UInt64                 CODEC(T64, ZSTD(1)),
    sum_duration_us  UInt64                 CODEC(T64, ZSTD(1)),
    duration_us      AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), UInt64) CODEC(ZSTD(1)),
    first_chunk_us   AggregateFunction(quantilesTDigest(0.5, 0.95, 0.99), UInt64) CODEC(ZSTD(1)),
    version          UInt64                 CODEC(ZSTD(1)),
    is_deleted       UInt8                  CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(day)
ORDER BY (day, service_name, feature, model)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per kind of call and day, where the stretch has it whole, or else five minutes: from the
-- rollups or, in the hours that are `counted`, from the calls. Only the latter tell team and project.
CREATE VIEW IF NOT EXISTS latencies AS
WITH arrayMap(hour -> toStartOfDay(hour), {counted:Array(DateTime('UTC'))}) AS counted_days
SELECT day AS slot, service_name, '' AS team, feature, model, '' AS project, calls, errors, duration_us, first_chunk_us
FROM latency_daily FINAL
WHERE day >= {since:DateTime64(6, 'UTC')} AND day + INTERVAL 1 DAY <= {until:DateTime64(6, 'UTC')}
    AND NOT has(counted_days, day)
UNION ALL
SELECT slot, service_name, '' AS team, feature, model, '' AS project, calls, errors, duration_us, first_chunk_us
FROM latency_5m FINAL
WHERE toStartOfHour(slot) >= {since:DateTime64(6, 'UTC')}
    AND toStartOfHour(slot) + INTERVAL 1 HOUR <= {until:DateTime64(6, 'UTC')}
    AND toStartOfHour(slot) NOT IN {counted:Array(DateTime('UTC'))}
    AND (
        toStartOfDay(slot) < {since:DateTime64(6, 'UTC')}
        OR toStartOfDay(slot) + INTERVAL 1 DAY > {until:DateTime64(6, 'UTC')}
        OR has(counted_days, toStartOfDay(slot))
    )
UNION ALL
SELECT
    toStartOfFiveMinutes(started_at) AS slot,
    service_name,
    team,
    feature,
    model,
    project,
    sum(c.calls) AS calls,
    sum(c.errors) AS errors,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(c.duration_us, c.calls > c.errors) AS duration_us,
    quantilesTDigestStateIf(0.5, 0.95, 0.99)(ifNull(time_to_first_chunk_us, 0), c.calls > c.errors AND time_to_first_chunk_us IS NOT NULL) AS first_chunk_us
FROM calls_of_hours(hours = {counted:Array(DateTime('UTC'))}) AS c
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
GROUP BY slot, service_name, team, feature, model, project;

-- One row per hour of receipt and process of an app: what became of its spans so far, by its own
-- count. Numbers only grow, so that a batch which comes twice, late or never changes nothing.
CREATE TABLE IF NOT EXISTS sender_counts
(
    hour         DateTime('UTC'),
    service_name LowCardinality(String),
    sender       String,
    made         SimpleAggregateFunction(max, UInt64),
    exported     SimpleAggregateFunction(max, UInt64),
    queue_full   SimpleAggregateFunction(max, UInt64),
    failed       SimpleAggregateFunction(max, UInt64)
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(hour)
ORDER BY (service_name, sender, hour)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_free_disk_bytes_to_perform_insert = 268435456;

-- One row per hour of receipt and service: what the app made, gave up and sent (where our own
-- exporter sends, and it tells with its next batch), what came of it, and what is there. A span
-- that is delivered again counts where it came last, so duplicates are what was accepted in this
-- hour and is kept, if at all, under a later one. What is superseded is kept and not counted.
CREATE OR REPLACE VIEW span_balance AS
SELECT
    hour,
    service_name,
    sumIf(spans, fate = 'made') AS made,
    sumIf(spans, fate = 'queue_full') AS queue_full,
    sumIf(spans, fate = 'failed') AS failed,
    sumIf(spans, fate = 'exported') AS exported,
    sumIf(spans, fate IN ('calls', 'http_attempts', 'refused', 'passed_by')) AS received,
    sumIf(spans, fate IN ('calls', 'http_attempts')) AS accepted,
    sumIf(spans, fate = 'refused') AS refused,
    sumIf(spans, fate = 'passed_by') AS passed_by,
    sumIf(spans, fate = 'kept') AS kept,
    sumIf(spans, fate = 'superseded') AS superseded,
    accepted - kept - superseded AS duplicates
FROM
(
    SELECT hour, service_name, fate, spans FROM span_counts
    UNION ALL
    SELECT toStartOfHour(received_at), service_name, 'kept', count() FROM calls FINAL GROUP BY ALL
    UNION ALL
    SELECT toStartOfHour(received_at), service_name, 'superseded', uniqExact(trace_id, span_id)
    FROM calls
    WHERE superseded
    GROUP BY ALL
    UNION ALL
    SELECT toStartOfHour(received_at), service_name, 'kept', count() FROM http_attempts FINAL GROUP BY ALL
    UNION ALL
    SELECT
        hour,
        service_name,
        told.1,
        toUInt64(told.2 - lagInFrame(told.2) OVER (PARTITION BY service_name, sender, told.1 ORDER BY hour))
    FROM
    (
        SELECT
            hour,
            service_name,
            sender,
            max(made) OVER so_far AS made_by_now,
            max(exported) OVER so_far AS exported_by_now,
            max(queue_full) OVER so_far AS queue_full_by_now,
            max(failed) OVER so_far AS failed_by_now
        FROM (
            SELECT hour, service_name, sender, max(made) AS made, max(exported) AS exported, max(queue_full) AS queue_full, max(failed) AS failed
            FROM sender_counts
            GROUP BY hour, service_name, sender
        )
        WINDOW so_far AS (PARTITION BY service_name, sender ORDER BY hour)
    )
    ARRAY JOIN [('made', made_by_now), ('exported', exported_by_now), ('queue_full', queue_full_by_now), ('failed', failed_by_now)] AS told
)
GROUP BY hour, service_name;

-- One row per minute, collector and figure that it tells at /metrics, for those who read the store.
-- Where none is new, the collector is away, or its store was.
CREATE TABLE IF NOT EXISTS collector_metrics
(
    at        DateTime('UTC')                     CODEC(Delta, ZSTD(1)),
    collector LowCardinality(String)              CODEC(ZSTD(1)),
    name      LowCardinality(String)              CODEC(ZSTD(1)),
    labels    Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    value     Float64                             CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (name, at, collector)
TTL at + INTERVAL 90 DAY
SETTINGS min_free_disk_bytes_to_perform_insert = 268435456, ttl_only_drop_parts = 1;

-- One row per collector of the last day and figure: where it stood last, and when that was.
CREATE VIEW IF NOT EXISTS collector_figures AS
SELECT collector, name, labels, argMax(m.value, m.at) AS value, max(m.at) AS told_at
FROM collector_metrics AS m
WHERE m.at >= now('UTC') - INTERVAL 1 DAY
GROUP BY collector, name, labels;

-- What is there already is to be looked through, and rolled up anew.
INSERT INTO rollup_hours (hour, touched_at)
SELECT toStartOfHour(started_at) AS hour, now64(6, 'UTC') AS touched_at
FROM calls
GROUP BY hour;
