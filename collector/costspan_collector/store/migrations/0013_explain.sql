-- A day whose bill changed after it was final is RESTATED until it is final again.
ALTER TABLE recon_runs MODIFY COLUMN
    day_state Enum8('OPEN' = 1, 'PROVISIONAL' = 2, 'FINAL' = 3, 'RESTATED' = 4);
ALTER TABLE recon_lines MODIFY COLUMN
    day_state Enum8('OPEN' = 1, 'PROVISIONAL' = 2, 'FINAL' = 3, 'RESTATED' = 4);

-- What the verdicts of a run were judged by: the tolerances, as JSON with sorted keys.
ALTER TABLE recon_runs ADD COLUMN IF NOT EXISTS tolerances String DEFAULT '{}';

-- How many requests of the model the provider counted for the key, and how many calls with usage the
-- spans hold: what the classes of coverage were told apart by. NULL where it counted none of the name.
ALTER TABLE recon_lines ADD COLUMN IF NOT EXISTS usage_requests Nullable(UInt64);
ALTER TABLE recon_lines ADD COLUMN IF NOT EXISTS span_requests Nullable(UInt64);

-- What a class is about: the tier of a TIER_MISMATCH, the first day of a PRICE_VERSION, the share of
-- a MIX.
ALTER TABLE recon_components ADD COLUMN IF NOT EXISTS detail String;

-- The views were made before these columns.
CREATE OR REPLACE VIEW current_recon_days AS
SELECT *
FROM recon_runs
WHERE (day, run_id) IN (SELECT day, argMax(run_id, (run_at, written_at)) FROM recon_runs GROUP BY day);

CREATE OR REPLACE VIEW current_recon_lines AS
SELECT *
FROM recon_lines
WHERE (day, run_id) IN (SELECT day, argMax(run_id, (run_at, written_at)) FROM recon_runs GROUP BY day);

CREATE OR REPLACE VIEW current_recon_components AS
SELECT *
FROM recon_components
WHERE (day, run_id) IN (SELECT day, argMax(run_id, (run_at, written_at)) FROM recon_runs GROUP BY day);

-- One row per call that ended on the days since <= day < until, with what it used by meter, zeros
-- left out. Calls from before quantities were kept have their tokens; where those cannot be told
-- apart (audio, images, a cost without parts) nothing.
CREATE VIEW IF NOT EXISTS used_calls AS
WITH
    empty(cost_parts_usd) AND ifNull(cost_usd, 0) != 0 AS has_no_parts,
    arrayExists(part -> part LIKE 'audio%' OR part LIKE 'image%', mapKeys(cost_parts_usd)) AS is_mixed
SELECT
    toDate(started_at + toIntervalMicrosecond(duration_us), 'UTC') AS day,
    trace_id,
    span_id,
    project,
    key_hint,
    team,
    feature,
    user,
    customer,
    request_model,
    c.model AS model,
    response_tier AS tier,
    if(splitByChar('/', price_path)[3] = 'long', 'long', 'short') AS context,
    response_id,
    c.status = 'error' AS failed,
    c.retries AS retries,
    estimate,
    c.unpriced AS unpriced,
    cost_usd IS NOT NULL AS priced,
    notEmpty(quantities) OR input_tokens IS NOT NULL OR output_tokens IS NOT NULL AS has_usage,
    NOT has_usage AND price_status NOT IN ('not_billed', 'deferred')
        AND (price_status IN ('missing_usage', 'estimated')
             OR stream_outcome IN ('closed_early', 'abandoned', 'failed')) AS is_unseen,
    mapFilter(
        (meter, quantity) -> quantity > 0,
        multiIf(
            notEmpty(quantities), quantities,
            has_no_parts OR is_mixed, CAST(map(), 'Map(LowCardinality(String), Decimal(38, 20))'),
            CAST(
                map(
                    'input', toDecimal128(ifNull(input_tokens, 0), 20) - ifNull(cached_tokens, 0) - ifNull(cache_write_tokens, 0),
                    'cached_input', toDecimal128(ifNull(cached_tokens, 0), 20),
                    'cache_write_30m', toDecimal128(ifNull(cache_write_tokens, 0), 20),
                    'output', toDecimal128(ifNull(output_tokens, 0), 20)
                ),
                'Map(LowCardinality(String), Decimal(38, 20))'
            )
        )
    ) AS used,
    if(
        has_no_parts,
        CAST(map('all', assumeNotNull(cost_usd)), 'Map(LowCardinality(String), Decimal(18, 12))'),
        if(cost_usd IS NULL, CAST(map(), 'Map(LowCardinality(String), Decimal(18, 12))'), cost_parts_usd)
    ) AS parts
FROM calls AS c FINAL
WHERE started_at >= {since:Date} - INTERVAL 1 DAY
    AND started_at < {until:Date}
    AND provider IN ('', 'openai')
    AND day >= {since:Date}
    AND day < {until:Date};
