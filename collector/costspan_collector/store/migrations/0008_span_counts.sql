-- One row per hour of receipt, service, and what became of spans: 'calls' and 'http_attempts' were
-- accepted into that table, 'refused' and 'passed_by' were not, for a reason. Spans in one segment
-- and their counts are written together, once. Read sums: rows of one key are added when merged.
CREATE TABLE IF NOT EXISTS span_counts
(
    hour         DateTime('UTC'),
    service_name LowCardinality(String),
    fate         LowCardinality(String),
    reason       LowCardinality(String),
    spans        UInt64
)
ENGINE = SummingMergeTree(spans)
PARTITION BY toYYYYMM(hour)
ORDER BY (hour, service_name, fate, reason)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    min_free_disk_bytes_to_perform_insert = 268435456;

-- One row per hour of receipt and service. A span that is delivered again counts where it came
-- last, so duplicates are what was accepted in this hour and is kept, if at all, under a later one.
CREATE VIEW IF NOT EXISTS span_balance AS
SELECT
    hour,
    service_name,
    sumIf(spans, fate != 'kept') AS received,
    sumIf(spans, fate IN ('calls', 'http_attempts')) AS accepted,
    sumIf(spans, fate = 'refused') AS refused,
    sumIf(spans, fate = 'passed_by') AS passed_by,
    sumIf(spans, fate = 'kept') AS kept,
    accepted - kept AS duplicates
FROM
(
    SELECT hour, service_name, fate, spans FROM span_counts
    UNION ALL
    SELECT toStartOfHour(received_at), service_name, 'kept', count() FROM calls FINAL GROUP BY ALL
    UNION ALL
    SELECT toStartOfHour(received_at), service_name, 'kept', count() FROM http_attempts FINAL GROUP BY ALL
)
GROUP BY hour, service_name;
