-- One row per run of a scheduled job, written when it ends.
CREATE TABLE IF NOT EXISTS job_runs
(
    run_id     UUID,
    job        LowCardinality(String),
    started_at DateTime64(3, 'UTC'),
    ended_at   DateTime64(3, 'UTC'),
    status     Enum8('ok' = 1, 'failed' = 2, 'skipped' = 3),
    detail     String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(started_at)
ORDER BY (job, started_at, run_id);
