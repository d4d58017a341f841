-- One row per step of an alert, with the alert as it was after the step (JSON). Written before
-- the state, so that a crash in between loses nothing; written again, it replaces itself.
CREATE TABLE IF NOT EXISTS alert_events
(
    alert_id   String,
    sequence   UInt32,
    at         DateTime64(3, 'UTC'),
    rule       LowCardinality(String),
    severity   LowCardinality(String),
    from_state LowCardinality(String),
    to_state   LowCardinality(String),
    reason     String,
    title      String,
    tells      Bool,
    snapshot   String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree
ORDER BY (alert_id, sequence);

-- One row per rule and scope that ever raised an alert: its latest episode (JSON), refreshed by
-- every evaluation while it lasts. Read with FINAL.
CREATE TABLE IF NOT EXISTS alert_states
(
    fingerprint  String,
    alert_id     String,
    rule         LowCardinality(String),
    severity     LowCardinality(String),
    state        LowCardinality(String),
    sequence     UInt32,
    evaluated_at DateTime64(3, 'UTC'),
    snapshot     String CODEC(ZSTD(3))
)
ENGINE = ReplacingMergeTree(evaluated_at)
ORDER BY fingerprint;

-- One row per thing that happened to a message (one step of an alert on one channel): claimed
-- before it is sent, then how that ended. Of two claims of one try the first in order wins.
CREATE TABLE IF NOT EXISTS notifications
(
    message_id String,
    alert_id   String,
    sequence   UInt32,
    channel    LowCardinality(String),
    try_number UInt16,
    outcome    Enum8('claimed' = 1, 'delivered' = 2, 'failed' = 3, 'superseded' = 4),
    claim_id   UUID,
    at         DateTime64(3, 'UTC'),
    detail     String
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (message_id, try_number, at);
