-- One row per silence, as it was changed at last: nobody is told of alerts that match all of it.
CREATE TABLE IF NOT EXISTS silences
(
    silence_id String,
    matchers   Map(LowCardinality(String), String),
    author     String,
    comment    String,
    starts_at  DateTime64(3, 'UTC'),
    ends_at    DateTime64(3, 'UTC'),
    at         DateTime64(3, 'UTC')
)
ENGINE = ReplacingMergeTree(at)
ORDER BY silence_id;

-- One row per thing that a person did with an alert. The next evaluation takes it up.
CREATE TABLE IF NOT EXISTS alert_actions
(
    alert_id String,
    kind     Enum8('acknowledge' = 1, 'close' = 2),
    author   String,
    comment  String,
    at       DateTime64(3, 'UTC')
)
ENGINE = MergeTree
ORDER BY (alert_id, at);

-- One row per stretch of time that a person marked: no past to compare with, or the new usual.
CREATE TABLE IF NOT EXISTS alert_marks
(
    mark_id   String,
    kind      Enum8('left_out' = 1, 'new_level' = 2),
    since     DateTime64(3, 'UTC'),
    until     Nullable(DateTime64(3, 'UTC')),
    dimension LowCardinality(String),
    value     String,
    author    String,
    comment   String,
    at        DateTime64(3, 'UTC'),
    undone    Bool
)
ENGINE = ReplacingMergeTree(at)
ORDER BY mark_id;

-- The alert that an incident began with: one message tells of all alerts of an incident.
ALTER TABLE alert_events ADD COLUMN IF NOT EXISTS incident String DEFAULT alert_id;

-- `unknown`: the process died while sending, and the receiver could not tell a second message.
ALTER TABLE notifications MODIFY COLUMN outcome
    Enum8('claimed' = 1, 'delivered' = 2, 'failed' = 3, 'superseded' = 4, 'unknown' = 5);

-- Of two claims of one try, which carry one token, the first is kept.
ALTER TABLE notifications MODIFY SETTING non_replicated_deduplication_window = 10000;
