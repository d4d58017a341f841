-- One row per call that is the same as another one: the row again, superseded. Its ingest_id is
-- above all that the collector gives, so that a span which is delivered once more counts no more.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC'), slots Array(DateTime('UTC'))
INSERT INTO calls (*, superseded)
SELECT
    c.* REPLACE (greatest(c.ingest_id, bitShiftLeft(toUInt64(1), 63)) + 1 AS ingest_id),
    1 AS superseded
FROM calls AS c FINAL
WHERE toStartOfFiveMinutes(c.started_at) IN {slots:Array(DateTime('UTC'))}
    AND (c.trace_id, c.span_id) IN
    (
        SELECT trace_id, span_id
        FROM doubles(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')})
    )
SETTINGS insert_deduplicate = 0, insert_allow_materialized_columns = 1
