-- One row per call of a run: its newest version again, with the price after the run, or with the
-- one before. Its ingest_id is above all that the collector gives, so that a span which is
-- delivered once more later does not bring the other price back. All rows of a day are one block,
-- hence one part: they are there together or not at all.
-- parameters: run_id UUID, undo Bool, since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
INSERT INTO calls
SELECT
    c.* REPLACE (
        j.price.cost_usd AS cost_usd,
        j.price.list_cost_usd AS list_cost_usd,
        j.price.parts AS cost_parts_usd,
        j.price.status AS price_status,
        j.price.book AS price_book,
        j.price.path AS price_path,
        j.price.overrides AS price_overrides,
        greatest(c.ingest_id, bitShiftLeft(toUInt64(1), 63)) + 1 AS ingest_id
    )
FROM calls AS c FINAL
INNER JOIN
(
    SELECT started_at, trace_id, span_id, if({undo:Bool}, old, new) AS price
    FROM reprice_calls
    WHERE run_id = {run_id:UUID}
        AND started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
) AS j ON c.started_at = j.started_at AND c.trace_id = j.trace_id AND c.span_id = j.span_id
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
SETTINGS
    insert_deduplicate = 0,
    max_insert_threads = 1,
    min_insert_block_size_rows = 1000000000,
    min_insert_block_size_bytes = 0
