-- What OpenAI said it billed, page by page as it was received. One row per HTTP answer. The rows
-- are a chain: record_sha256 covers the row and the record before it, so none can be changed or
-- taken out without a trace.
CREATE TABLE IF NOT EXISTS billing_fetches
(
    sequence        UInt64,
    fetch_id        UUID,
    endpoint        LowCardinality(String),
    parameters      String,                  -- of the request, JSON with sorted keys
    page            UInt32,                  -- 0 for the first
    request_id      String,
    fetched_at      DateTime64(6, 'UTC'),
    body            String CODEC(ZSTD(3)),
    body_sha256     FixedString(64),
    previous_sha256 String,                  -- record_sha256 of the row before; '' for the first
    record_sha256   FixedString(64)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(fetched_at)
ORDER BY sequence
SETTINGS fsync_after_insert = 1;

-- One row per source, day and try to read it. Written last: it makes the rows of `fetch_id` count.
-- An equal content_sha256 means nothing changed, and `revision_fetch_id` names the older fetch
-- whose rows still hold. A try that did not succeed keeps its reason and changes nothing.
CREATE TABLE IF NOT EXISTS billing_days
(
    source            LowCardinality(String),  -- costs, completions or embeddings
    day               Date,
    fetch_id          UUID,
    fetched_at        DateTime64(6, 'UTC'),
    status            Enum8('ok' = 1, 'blocked' = 2, 'unavailable' = 3),
    reason            String,
    grouped_by        Array(LowCardinality(String)),
    content_sha256    String,
    revision          UInt32,
    revision_fetch_id UUID,
    billed_usd        Nullable(Decimal(76, 40)),  -- sum of the grouped rows
    control_usd       Nullable(Decimal(76, 40))   -- the same day asked for ungrouped
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (source, day, fetched_at)
SETTINGS fsync_after_insert = 1;

-- One row per day, project, key and line item of a revision. A null project or key is ''. A row
-- of the revision before that is not in this one is written with amount 0 and vanished = true.
CREATE TABLE IF NOT EXISTS billed_lines
(
    day           Date,
    project       LowCardinality(String),
    api_key_id    LowCardinality(String),
    line_item     LowCardinality(String),
    currency      LowCardinality(String),
    organization  LowCardinality(String),
    amount        String,                     -- as sent: up to 34 digits; terms joined by ' + '
    amount_usd    Decimal(76, 40),
    quantity      Nullable(Decimal(76, 40)),
    quantity_unit LowCardinality(String),
    vanished      Bool,
    revision      UInt32,
    fetch_id      UUID
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, revision, project, api_key_id, line_item)
SETTINGS fsync_after_insert = 1;

-- One row per day, project, key, model, batch, tier, modality and kind of what the provider counted.
CREATE TABLE IF NOT EXISTS provider_usage
(
    source       LowCardinality(String),
    day          Date,
    project      LowCardinality(String),
    api_key_id   LowCardinality(String),
    model        LowCardinality(String),
    batch        Bool,
    service_tier LowCardinality(String),
    modality     LowCardinality(String),  -- text, audio or image
    kind         LowCardinality(String),  -- input, cached_input, cache_write, output or requests
    quantity     UInt64,
    revision     UInt32,
    fetch_id     UUID
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, revision, project, api_key_id, model)
SETTINGS fsync_after_insert = 1;

-- One row per project key. `hint` is the end of OpenAI's redacted value; spans carry the same.
-- A key that is gone from the provider's list stays: its old spans still need a name.
CREATE TABLE IF NOT EXISTS api_keys
(
    project      String,
    project_name String,
    api_key_id   String,
    name         String,
    hint         String,
    seen_at      DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(seen_at)
ORDER BY (project, api_key_id)
SETTINGS fsync_after_insert = 1;

-- One row per day that a run reconciled, written last: the lines of (run_id, day) count from then
-- on. `inputs_sha256` covers everything the result depends on; equal inputs write nothing.
CREATE TABLE IF NOT EXISTS recon_runs
(
    run_id          UUID,
    day             Date,
    run_at          DateTime64(6, 'UTC'),
    written_at      DateTime64(6, 'UTC') DEFAULT now64(6),
    day_state       Enum8('OPEN' = 1, 'PROVISIONAL' = 2, 'FINAL' = 3),
    verdict         LowCardinality(String),  -- OPEN, MATCHED, EXPLAINED, REVIEW, AWAITING or BLOCKED
    reason          String,
    price_book      String,
    grammar         LowCardinality(String),
    inputs_sha256   FixedString(64),
    costs_fetch_id  Nullable(UUID),
    costs_revision  UInt32,
    usage_fetch_ids Array(UUID),
    billed_usd      Nullable(Decimal(76, 40)),  -- NULL: no answer that can be trusted, not zero
    estimated_usd   Decimal(76, 40),
    calls           UInt64,
    unpriced_calls  UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, run_at, run_id)
SETTINGS fsync_after_insert = 1;

-- One row per day, project, key and line item of a run.
--   billed - estimated = coverage + metering + rate + unsplit, to the last digit
-- A NULL part could not be told apart and is inside the next one: metering in coverage where the
-- provider's usage is missing; metering and rate in unsplit where the billed quantity is.
CREATE TABLE IF NOT EXISTS recon_lines
(
    run_id             UUID,
    day                Date,
    project            LowCardinality(String),
    api_key_id         LowCardinality(String),
    line_item          LowCardinality(String),
    match_level        LowCardinality(String),      -- M1, M2, M3, M5 or M6
    billed_usd         Decimal(76, 40),
    billed_quantity    Nullable(Decimal(76, 40)),
    quantity_unit      LowCardinality(String),
    usage_quantity     Nullable(Decimal(76, 40)),
    estimated_quantity Nullable(Decimal(76, 40)),
    unit_price_usd     Nullable(Decimal(76, 40)),   -- ours; NULL where we know none
    estimated_usd      Nullable(Decimal(76, 40)),   -- NULL where there are spans and none has a price
    calls              UInt64,
    unpriced_calls     UInt64,
    coverage_usd       Nullable(Decimal(76, 40)),
    metering_usd       Nullable(Decimal(76, 40)),
    rate_usd           Nullable(Decimal(76, 40)),
    unsplit_usd        Nullable(Decimal(76, 40)),
    cause              LowCardinality(String),      -- the class of the largest component; MATCHED if none
    verdict            LowCardinality(String),
    day_state          Enum8('OPEN' = 1, 'PROVISIONAL' = 2, 'FINAL' = 3),
    explanation        String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, run_id, project, api_key_id, line_item)
SETTINGS fsync_after_insert = 1;

-- One row per class of a line. Every dollar of billed - estimated is in exactly one.
CREATE TABLE IF NOT EXISTS recon_components
(
    run_id     UUID,
    day        Date,
    project    LowCardinality(String),
    api_key_id LowCardinality(String),
    line_item  LowCardinality(String),
    component  LowCardinality(String),  -- coverage, metering, rate, unsplit or whole
    cause      LowCardinality(String),  -- its class
    amount_usd Decimal(76, 40)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(day)
ORDER BY (day, run_id, project, api_key_id, line_item)
SETTINGS fsync_after_insert = 1;

-- The newest run of each day.
CREATE VIEW IF NOT EXISTS current_recon_days AS
SELECT *
FROM recon_runs
WHERE (day, run_id) IN (SELECT day, argMax(run_id, (run_at, written_at)) FROM recon_runs GROUP BY day);

-- The lines of the newest run of each day.
CREATE VIEW IF NOT EXISTS current_recon_lines AS
SELECT *
FROM recon_lines
WHERE (day, run_id) IN (SELECT day, argMax(run_id, (run_at, written_at)) FROM recon_runs GROUP BY day);

-- The components of the newest run of each day.
CREATE VIEW IF NOT EXISTS current_recon_components AS
SELECT *
FROM recon_components
WHERE (day, run_id) IN (SELECT day, argMax(run_id, (run_at, written_at)) FROM recon_runs GROUP BY day);
