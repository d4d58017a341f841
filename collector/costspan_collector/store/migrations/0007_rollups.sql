-- What answered; what was asked for where nothing did.
ALTER TABLE calls ADD COLUMN IF NOT EXISTS
    model LowCardinality(String) ALIAS if(response_model != '', response_model, request_model);

-- One row per UTC hour with calls: when rows of it last came, and up to when what came is in the
-- rollups. The first is written by the insert of the calls, the second when a recompute is done.
CREATE TABLE IF NOT EXISTS rollup_hours
(
    hour           DateTime('UTC'),
    touched_at     SimpleAggregateFunction(max, DateTime64(6, 'UTC')),
    complete_until SimpleAggregateFunction(max, DateTime64(6, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY hour
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS rollup_hours_touched TO rollup_hours AS
SELECT toStartOfHour(started_at) AS hour, now64(6, 'UTC') AS touched_at
FROM calls
GROUP BY hour;

-- One row per UTC day whose calls were dropped: its rollups are all that is left of it.
CREATE TABLE IF NOT EXISTS dropped_days
(
    day        Date,
    dropped_at DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(dropped_at)
ORDER BY day
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per UTC hour whose rollups lack something that came.
CREATE VIEW IF NOT EXISTS dirty_hours AS
SELECT hour
FROM rollup_hours
WHERE toDate(hour) NOT IN (SELECT day FROM dropped_days)
GROUP BY hour
HAVING max(touched_at) >= max(complete_until);

-- One row per hour and kind of call. Recomputed from the calls, each once, and never summed over
-- inserts; the hours of one day come and go together. A kind that is gone is a deleted row.
-- Read it through `costs`, or with FINAL.
CREATE TABLE IF NOT EXISTS cost_hourly
(
    hour               DateTime('UTC')        CODEC(Delta, ZSTD(1)),
    service_name       LowCardinality(String) CODEC(ZSTD(1)),
    environment        LowCardinality(String) CODEC(ZSTD(1)),
    project            LowCardinality(String) CODEC(ZSTD(1)),
    team               LowCardinality(String) CODEC(ZSTD(1)),
    feature            LowCardinality(String) CODEC(ZSTD(1)),
    model              LowCardinality(String) CODEC(ZSTD(1)),
    response_tier      LowCardinality(String) CODEC(ZSTD(1)),
    calls              UInt64                 CODEC(T64, ZSTD(1)),
    errors             UInt64                 CODEC(T64, ZSTD(1)),
    priced_calls       UInt64                 CODEC(T64, ZSTD(1)),
    unpriced_calls     UInt64                 CODEC(T64, ZSTD(1)),
    -- Sums of what is known; the counts above say how much that is.
    input_tokens       UInt64                 CODEC(T64, ZSTD(1)),
    cached_tokens      UInt64                 CODEC(T64, ZSTD(1)),
    cache_write_tokens UInt64                 CODEC(T64, ZSTD(1)),
    output_tokens      UInt64                 CODEC(T64, ZSTD(1)),
    reasoning_tokens   UInt64                 CODEC(T64, ZSTD(1)),
    cost_usd           Decimal(38, 12)        CODEC(ZSTD(1)),
    list_cost_usd      Decimal(38, 12)        CODEC(ZSTD(1)),
    version            UInt64                 CODEC(ZSTD(1)),
    is_deleted         UInt8                  CODEC(ZSTD(1))
)
ENGINE = ReplacingMergeTree(version, is_deleted)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, service_name, environment, project, team, feature, model, response_tier)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per five minutes and kind of call. Durations and quantiles are of calls that worked.
CREATE TABLE IF NOT EXISTS latency_5m
(
    slot             DateTime('UTC')        CODEC(Delta, ZSTD(1)),
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
PARTITION BY toYYYYMM(slot)
ORDER BY (slot, service_name, feature, model)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1;

-- One row per call of some whole hours, each once, as the rollups see it.
CREATE VIEW IF NOT EXISTS calls_of_hours AS
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
    duration_us,
    time_to_first_chunk_us
FROM calls AS c FINAL
WHERE started_at >= arrayMin({hours:Array(DateTime('UTC'))})
    AND started_at < arrayMax({hours:Array(DateTime('UTC'))}) + 3600
    AND toStartOfFiveMinutes(started_at) IN (
        SELECT arrayJoin({hours:Array(DateTime('UTC'))}) + arrayJoin(range(0, 3600, 300))
    );

-- One row per UTC hour of a stretch whose calls are to be counted, since the rollup does not hold it
-- whole: the stretch cuts it, or rows came for it since. With `by_hour` false, every hour.
CREATE VIEW IF NOT EXISTS counted_hours AS
SELECT hour
FROM rollup_hours
WHERE hour > {since:DateTime64(6, 'UTC')} - INTERVAL 1 HOUR
    AND hour < {until:DateTime64(6, 'UTC')}
    AND toDate(hour) NOT IN (SELECT day FROM dropped_days)
GROUP BY hour
HAVING NOT {by_hour:Bool}
    OR hour < {since:DateTime64(6, 'UTC')}
    OR hour + INTERVAL 1 HOUR > {until:DateTime64(6, 'UTC')}
    OR max(touched_at) >= max(complete_until);

-- One row per hour and kind of call, or per call in the hours that are `counted`: those that
-- counted_hours names, asked once so that both halves agree. A sum of these rows is the sum of the
-- calls, at any moment. Only rows of calls tell the user.
CREATE VIEW IF NOT EXISTS costs AS
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
    list_cost_usd
FROM cost_hourly FINAL
WHERE hour >= {since:DateTime64(6, 'UTC')} AND hour + INTERVAL 1 HOUR <= {until:DateTime64(6, 'UTC')}
    AND hour NOT IN {counted:Array(DateTime('UTC'))}
UNION ALL
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
    list_cost_usd
FROM calls_of_hours(hours = {counted:Array(DateTime('UTC'))})
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')};

-- What is there already is to be rolled up.
INSERT INTO rollup_hours (hour, touched_at)
SELECT toStartOfHour(started_at) AS hour, now64(6, 'UTC') AS touched_at
FROM calls
GROUP BY hour;
