-- What a call used, exactly, by meter, priced or not: enough to price it again to the last digit.
ALTER TABLE calls ADD COLUMN IF NOT EXISTS
    quantities Map(LowCardinality(String), Decimal(38, 20)) CODEC(ZSTD(1)) AFTER reasoning_tokens;

-- cost_usd is what the organization is expected to pay: a negotiated price where one holds.
ALTER TABLE calls ADD COLUMN IF NOT EXISTS
    list_cost_usd Nullable(Decimal(18, 12)) DEFAULT cost_usd CODEC(T64, ZSTD(1)) AFTER cost_usd;
ALTER TABLE calls ADD COLUMN IF NOT EXISTS
    price_overrides Array(LowCardinality(String)) CODEC(ZSTD(1)) AFTER price_path;

-- Whether a price book has the last word: not where the cost came without one, where the usage is
-- only estimated or cannot be true, where nothing is billed, or where not all quantities are known.
ALTER TABLE calls ADD COLUMN IF NOT EXISTS
    priceable Bool ALIAS price_book != ''
                         AND price_status NOT IN
                             ('', 'not_billed', 'deferred', 'invalid_usage', 'estimated')
                         AND (notEmpty(quantities) OR empty(cost_parts_usd)
                              AND ifNull(input_tokens, 0) + ifNull(output_tokens, 0) = 0);

-- One row per call that a price book has the last word on, with what its price depends on. A
-- worker is a model that worked for the call, '' the one that was called: its context is as long
-- as its input.
CREATE VIEW IF NOT EXISTS priceable_calls AS
WITH
    arraySort(mapKeys(quantities)) AS sorted_meters,
    arrayMap(meter -> arrayStringConcat(arrayPopBack(splitByChar('/', meter)), '/'), sorted_meters) AS worker_by_meter
SELECT
    started_at,
    trace_id,
    span_id,
    if(response_model != '', response_model, request_model) AS model,
    response_tier AS tier,
    server_address AS host,
    project,
    notEmpty(quantities) OR input_tokens IS NOT NULL OR price_status = 'priced' AS has_usage,
    sorted_meters AS meters,
    arrayMap(
        worker -> arraySum(
            (meter, of) -> if(
                of = worker AND splitByChar('/', meter)[-1] IN (
                    'input', 'cached_input', 'cache_write_30m', 'cache_write_12h', 'decision_input',
                    'audio_input', 'cached_audio_input', 'image_input', 'cached_image_input'
                ),
                toUInt64(quantities[meter]),
                0
            ),
            sorted_meters,
            worker_by_meter
        ),
        arraySort(arrayDistinct(worker_by_meter))
    ) AS input_by_worker,
    quantities,
    cost_usd,
    list_cost_usd,
    cost_parts_usd,
    price_status,
    price_book,
    price_path,
    price_overrides
FROM calls FINAL
WHERE priceable;

-- One row per kind of call, run that prices again, and moment from which this holds: its status,
-- and for each term of its cost the exact price of a unit in pico-dollars, at list and negotiated.
-- The term of '' is for every call; that of search_content for a block of input that a search
-- bills unless the input has room for it.
CREATE TABLE IF NOT EXISTS reprice_rates
(
    run_id       UUID,
    kind         FixedString(16),
    valid_from   DateTime64(6, 'UTC'),
    status       LowCardinality(String),
    book         LowCardinality(String),
    path         LowCardinality(String),
    overrides    Array(LowCardinality(String)),
    search_block UInt64,
    terms        Array(Tuple(
        meter String, part String, list_pico Int256, list_per Int256, pico Int256, per Int256))
)
ENGINE = MergeTree
PARTITION BY run_id
ORDER BY (kind, valid_from)
SETTINGS fsync_after_insert = 1;

-- One row per call to which a run gives another price, with the price before and after.
CREATE TABLE IF NOT EXISTS reprice_calls
(
    run_id     UUID,
    started_at DateTime64(6, 'UTC') CODEC(Delta, ZSTD(1)),
    trace_id   FixedString(16),
    span_id    FixedString(8),
    old        Tuple(
        cost_usd Nullable(Decimal(18, 12)), list_cost_usd Nullable(Decimal(18, 12)),
        parts Map(LowCardinality(String), Decimal(18, 12)), status LowCardinality(String),
        book LowCardinality(String), path LowCardinality(String),
        overrides Array(LowCardinality(String))),
    new        Tuple(
        cost_usd Nullable(Decimal(18, 12)), list_cost_usd Nullable(Decimal(18, 12)),
        parts Map(LowCardinality(String), Decimal(18, 12)), status LowCardinality(String),
        book LowCardinality(String), path LowCardinality(String),
        overrides Array(LowCardinality(String)))
)
ENGINE = MergeTree
PARTITION BY run_id
ORDER BY (started_at, trace_id, span_id)
SETTINGS fsync_after_insert = 1;

-- One row per step of something that a person did to the numbers. Never changed.
CREATE TABLE IF NOT EXISTS audit_log
(
    at      DateTime64(6, 'UTC'),
    actor   String,
    action  LowCardinality(String),   -- reprice.started, reprice.applied, reprice.undone
    subject String,                   -- the id of the run
    detail  String                    -- JSON
)
ENGINE = MergeTree
ORDER BY at
SETTINGS fsync_after_insert = 1;
