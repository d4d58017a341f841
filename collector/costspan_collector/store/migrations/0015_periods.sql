-- One row per step of a month on its way to the books; a month without a row is OPEN. The newest
-- row is the state of the month, and nothing follows LOCKED. The row is written last: it makes the
-- bridge_lines and the evidence of its close_id count.
CREATE TABLE IF NOT EXISTS periods
(
    month          Date,                    -- its first day
    state          LowCardinality(String),  -- OPEN (again), CLOSING, INVOICE_MATCHED or LOCKED
    at             DateTime64(6, 'UTC'),
    written_at     DateTime64(6, 'UTC') DEFAULT now64(6),
    actor          String,
    close_id       UUID,
    reason         String,
    billed_usd     Decimal(76, 40),         -- sum of the billed lines of the month
    bill_sha256    String,                  -- of what its days are billed, whatever the run
    invoice_id     String,                  -- as printed on it, or ''
    invoice_usd    Nullable(Decimal(76, 40)),  -- what the bridge ends at; NULL before there is one
    invoice_file   String,                  -- name of the file; its content is not kept
    invoice_sha256 String,
    lock_sha256    String,                  -- LOCKED: of the manifest of the evidence pack
    -- LOCKED: what stands for each day for good: the run, the reading of the bill, the allocation.
    days           Array(Tuple(
        day Date, run_id UUID, costs_fetch_id UUID, content_sha256 String, allocation_id UUID))
)
ENGINE = MergeTree
ORDER BY (month, written_at)
SETTINGS fsync_after_insert = 1;

-- One row per line of the bridge from the bill to the invoice. Billed, corrections, fees, tax,
-- credits (negative) and rounding add up to periods.invoice_usd, to the last digit. Where it is
-- prepaid that is what was drawn from the balance: opening + purchase - expired - closing, which
-- are lines too, with these signs.
CREATE TABLE IF NOT EXISTS bridge_lines
(
    close_id        UUID,
    month           Date,
    position        UInt16,
    -- billed, correction, fee, tax, credit, rounding - opening, purchase, expired, closing
    kind            LowCardinality(String),
    charge_category LowCardinality(String),  -- FOCUS: Usage, Purchase, Tax, Credit, Adjustment, ''
    charge_class    LowCardinality(String),  -- FOCUS: Correction or ''
    description     String,
    amount_usd      Decimal(76, 40),
    evidence_sha256 String                   -- of the invoice's file, or of the bill
)
ENGINE = MergeTree
ORDER BY (close_id, position)
SETTINGS fsync_after_insert = 1;

-- One row per locked line whose bill changed afterwards, each time it did: what `month`, which was
-- open then, owes for it. The locked lines stay as they are.
CREATE TABLE IF NOT EXISTS adjustments
(
    month              Date,                    -- in whose bridge it is
    booked_at          DateTime64(6, 'UTC'),
    original_month     Date,
    day                Date,
    project            LowCardinality(String),
    api_key_id         LowCardinality(String),
    line_item          LowCardinality(String),
    quantity_unit      LowCardinality(String),
    locked_run_id      UUID,
    old_usd            Decimal(76, 40),         -- locked, and adjusted before
    new_usd            Decimal(76, 40),
    amount_usd         Decimal(76, 40),         -- new less old
    old_content_sha256 String,
    new_content_sha256 String,
    costs_fetch_id     UUID                     -- whose pages say new_usd
)
ENGINE = MergeTree
ORDER BY (month, day, project, api_key_id, line_item, booked_at)
SETTINGS fsync_after_insert = 1, non_replicated_deduplication_window = 1000;

-- One row per file of the evidence pack of a locked month.
CREATE TABLE IF NOT EXISTS evidence
(
    close_id UUID,
    name     String,
    sha256   FixedString(64),
    body     String CODEC(ZSTD(3))
)
ENGINE = MergeTree
ORDER BY (close_id, name)
SETTINGS fsync_after_insert = 1;

-- One row per month that was ever moved: its state. Of two locks the first holds.
CREATE VIEW IF NOT EXISTS current_periods AS
SELECT *
FROM periods
ORDER BY
    month,
    state = 'LOCKED' DESC,
    if(state = 'LOCKED', -toUnixTimestamp64Micro(written_at), toUnixTimestamp64Micro(written_at)) DESC
LIMIT 1 BY month;

-- One row per day of a locked month: what stands for it.
CREATE VIEW IF NOT EXISTS locked_days AS
SELECT
    month,
    close_id,
    tupleElement(entry, 'day') AS day,
    tupleElement(entry, 'run_id') AS run_id,
    tupleElement(entry, 'costs_fetch_id') AS costs_fetch_id,
    tupleElement(entry, 'content_sha256') AS content_sha256,
    tupleElement(entry, 'allocation_id') AS allocation_id
FROM (SELECT month, close_id, arrayJoin(days) AS entry FROM current_periods WHERE state = 'LOCKED');

-- One row per reconciled day: the run that counts. It is the newest one, until the month is locked.
CREATE VIEW IF NOT EXISTS standing_runs AS
SELECT day, argMax(run_id, (locked, run_at, written_at)) AS run_id
FROM
(
    SELECT
        day,
        run_id,
        run_at,
        written_at,
        (day, run_id) IN (SELECT day, run_id FROM locked_days) AS locked
    FROM recon_runs
)
GROUP BY day;

CREATE OR REPLACE VIEW current_recon_days AS
SELECT *
FROM recon_runs
WHERE (day, run_id) IN (SELECT day, run_id FROM standing_runs);

CREATE OR REPLACE VIEW current_recon_lines AS
SELECT *
FROM recon_lines
WHERE (day, run_id) IN (SELECT day, run_id FROM standing_runs);

CREATE OR REPLACE VIEW current_recon_components AS
SELECT *
FROM recon_components
WHERE (day, run_id) IN (SELECT day, run_id FROM standing_runs);

-- One row per allocated day: the allocation that counts, likewise.
CREATE VIEW IF NOT EXISTS standing_allocations AS
SELECT day, argMax(allocation_id, (locked, run_at, written_at)) AS allocation_id
FROM
(
    SELECT
        day,
        allocation_id,
        run_at,
        written_at,
        (day, allocation_id) IN (SELECT day, allocation_id FROM locked_days) AS locked
    FROM allocation_runs
)
GROUP BY day;

CREATE OR REPLACE VIEW current_allocation_runs AS
SELECT *
FROM allocation_runs
WHERE (day, allocation_id) IN (SELECT day, allocation_id FROM standing_allocations);

CREATE OR REPLACE VIEW current_allocations AS
SELECT *
FROM allocations
WHERE (day, allocation_id) IN (SELECT day, allocation_id FROM standing_allocations);
