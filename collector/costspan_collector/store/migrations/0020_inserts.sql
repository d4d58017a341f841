-- What one segment brings is one file, and not one for each column: to make and to sync 220 files is
-- a tenth of what an insert costs. What the merges make of it is larger and has a file a column.
ALTER TABLE calls MODIFY SETTING min_bytes_for_wide_part = 33554432;

-- How an attempt failed is in signals_5m, with the call that it was made for. That one may have come
-- long before, and began an hour earlier at most.
CREATE MATERIALIZED VIEW IF NOT EXISTS rollup_hours_retried TO rollup_hours AS
SELECT toStartOfHour(started_at) - INTERVAL arrayJoin([0, 1]) HOUR AS hour, now64(6, 'UTC') AS touched_at
FROM http_attempts
WHERE http_status >= 400 OR error_type != ''
GROUP BY hour;
