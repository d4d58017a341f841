-- All Usage endpoints are read. `source` is the endpoint's name, `kind` what it counts: also images,
-- characters, seconds, usage_bytes, sessions, and for web_search_calls model_requests, the requests
-- to a model that led to the searches. `api_source` is agents_api where OpenAI says so; `unlabeled`
-- is all else and proves nothing.
ALTER TABLE provider_usage ADD COLUMN IF NOT EXISTS api_source LowCardinality(String) DEFAULT '';

-- One row per answer of 400 to a way of grouping that was taken back by a poorer one. Support
-- depends on the organization and on the days asked for: what holds these days is not asked so again
-- for a week.
CREATE TABLE IF NOT EXISTS refused_groupings
(
    source     LowCardinality(String),  -- costs, or the name of a Usage endpoint
    since      Date,
    until      Date,                    -- exclusive
    grouped_by Array(LowCardinality(String)),
    refused_at DateTime64(6, 'UTC')
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(refused_at)
ORDER BY (source, refused_at)
SETTINGS fsync_after_insert = 1;

-- Two processes that append to the chain at the same moment write with the same token; one is kept.
ALTER TABLE billing_fetches MODIFY SETTING non_replicated_deduplication_window = 1000;
