-- One row per GenAI call. A call is known by (trace_id, span_id): the sorting key is made of raw
-- span fields only, so a second delivery meets the first and replaces it. Read with FINAL.
CREATE TABLE IF NOT EXISTS calls
(
    started_at             DateTime64(6, 'UTC')                             CODEC(Delta, ZSTD(1)),
    trace_id               FixedString(16)                                  CODEC(ZSTD(1)),
    span_id                FixedString(8)                                   CODEC(NONE),
    parent_span_id         FixedString(8)                                   CODEC(ZSTD(1)),
    service_name           LowCardinality(String)                           CODEC(ZSTD(1)),
    environment            LowCardinality(String)                           CODEC(ZSTD(1)),
    scope_name             LowCardinality(String)                           CODEC(ZSTD(1)),
    operation              LowCardinality(String)                           CODEC(ZSTD(1)),
    api_type               LowCardinality(String)                           CODEC(ZSTD(1)),
    provider               LowCardinality(String)                           CODEC(ZSTD(1)),
    server_address         LowCardinality(String)                           CODEC(ZSTD(1)),
    request_model          LowCardinality(String)                           CODEC(ZSTD(1)),
    response_model         LowCardinality(String)                           CODEC(ZSTD(1)),
    request_tier           LowCardinality(String)                           CODEC(ZSTD(1)),
    response_tier          LowCardinality(String)                           CODEC(ZSTD(1)),
    response_id            String                                           CODEC(ZSTD(1)),
    request_id             String                                           CODEC(ZSTD(1)),
    organization           LowCardinality(String)                           CODEC(ZSTD(1)),
    project                LowCardinality(String)                           CODEC(ZSTD(1)),
    key_fingerprint        LowCardinality(String)                           CODEC(ZSTD(1)),
    key_hint               LowCardinality(String)                           CODEC(ZSTD(1)),
    team                   LowCardinality(String)                           CODEC(ZSTD(1)),
    feature                LowCardinality(String)                           CODEC(ZSTD(1)),
    user                   String                                           CODEC(ZSTD(1)),
    customer               String                                           CODEC(ZSTD(1)),
    prompt                 LowCardinality(String)                           CODEC(ZSTD(1)),
    streamed               Bool                                             CODEC(ZSTD(1)),
    stream_outcome         LowCardinality(String)                           CODEC(ZSTD(1)),
    finish_reasons         Array(LowCardinality(String))                    CODEC(ZSTD(1)),
    duration_us            UInt64                                           CODEC(T64, ZSTD(1)),
    time_to_first_chunk_us Nullable(UInt64)                                 CODEC(T64, ZSTD(1)),
    retries                UInt16                                           CODEC(T64, ZSTD(1)),
    status                 Enum8('ok' = 1, 'error' = 2)                     CODEC(ZSTD(1)),
    error_type             LowCardinality(String)                           CODEC(ZSTD(1)),
    error_code             LowCardinality(String)                           CODEC(ZSTD(1)),
    -- Tokens are NULL where the response reported none: unknown is not zero.
    input_tokens           Nullable(UInt64)                                 CODEC(T64, ZSTD(1)),
    cached_tokens          Nullable(UInt64)                                 CODEC(T64, ZSTD(1)),
    cache_write_tokens     Nullable(UInt64)                                 CODEC(T64, ZSTD(1)),
    output_tokens          Nullable(UInt64)                                 CODEC(T64, ZSTD(1)),
    reasoning_tokens       Nullable(UInt64)                                 CODEC(T64, ZSTD(1)),
    -- Our estimate at list price. NULL with a price_status where it is unknown.
    cost_usd               Nullable(Decimal(18, 12))                        CODEC(T64, ZSTD(1)),
    cost_parts_usd         Map(LowCardinality(String), Decimal(18, 12))     CODEC(ZSTD(1)),
    price_status           LowCardinality(String)                           CODEC(ZSTD(1)),
    price_book             LowCardinality(String)                           CODEC(ZSTD(1)),
    price_path             LowCardinality(String)                           CODEC(ZSTD(1)),
    -- What a total lacks. An answer of 4xx or 5xx is not billed and comes without a price status.
    unpriced               Bool ALIAS cost_usd IS NULL AND price_status != 'not_billed'
                                      AND NOT (status = 'error' AND price_status = ''),
    received_at            DateTime64(6, 'UTC')                             CODEC(Delta, ZSTD(1)),
    ingest_id              UInt64                                           CODEC(ZSTD(1)),
    INDEX ix_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX ix_user user TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(ingest_id)
PARTITION BY toYYYYMMDD(started_at)
PRIMARY KEY toStartOfFiveMinutes(started_at)
ORDER BY (toStartOfFiveMinutes(started_at), trace_id, span_id)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_free_disk_bytes_to_perform_insert = 268435456,
    ttl_only_drop_parts = 1;

-- One row per HTTP attempt of a call, a child of its span.
CREATE TABLE IF NOT EXISTS http_attempts
(
    started_at     DateTime64(6, 'UTC')         CODEC(Delta, ZSTD(1)),
    trace_id       FixedString(16)              CODEC(ZSTD(1)),
    span_id        FixedString(8)               CODEC(NONE),
    parent_span_id FixedString(8)               CODEC(ZSTD(1)),
    service_name   LowCardinality(String)       CODEC(ZSTD(1)),
    attempt        UInt16                       CODEC(T64, ZSTD(1)),
    method         LowCardinality(String)       CODEC(ZSTD(1)),
    server_address LowCardinality(String)       CODEC(ZSTD(1)),
    http_status    UInt16                       CODEC(T64, ZSTD(1)),
    error_type     LowCardinality(String)       CODEC(ZSTD(1)),
    duration_us    UInt64                       CODEC(T64, ZSTD(1)),
    received_at    DateTime64(6, 'UTC')         CODEC(Delta, ZSTD(1)),
    ingest_id      UInt64                       CODEC(ZSTD(1)),
    INDEX ix_trace trace_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(ingest_id)
PARTITION BY toYYYYMMDD(started_at)
PRIMARY KEY toStartOfFiveMinutes(started_at)
ORDER BY (toStartOfFiveMinutes(started_at), trace_id, span_id)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_free_disk_bytes_to_perform_insert = 268435456,
    ttl_only_drop_parts = 1;
