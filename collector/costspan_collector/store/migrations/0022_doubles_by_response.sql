-- One row per call of a stretch that is the same one as another of its trace, and that is counted
-- still. The same one: the other lies within it in time, give or take a second, another
-- instrumentation saw it, and kind, model and id of the response agree as far as both tell; and it
-- is a child of its span or, since spans between the two may not be kept, ours with the same
-- response. Two spans of one instrumentation are the same call only where both name the same response.
-- But ours that has a child of another instrumentation may be superseded by it, so it
-- takes the place of no other: of two that lie within each other's second, both would be gone.
CREATE OR REPLACE VIEW doubles AS
WITH seen AS
(
    SELECT
        trace_id,
        span_id,
        any(parent_span_id) AS parent,
        any(started_at) AS start,
        any(started_at + toIntervalMicrosecond(duration_us)) AS end,
        any(scope_name) AS scope,
        any(response_id) AS response,
        any(multiIf(
            operation IN ('chat', 'completion', 'text_completion', 'generate_content', 'responses'), 'text',
            operation = 'embedding', 'embeddings',
            operation)) AS kind,
        arrayFilter(m -> m != '', arrayMap(
            m -> replaceRegexpOne(lower(splitByChar('/', m)[-1]), '-(\\d{4}-\\d{2}-\\d{2}|\\d{4})$', ''),
            [any(request_model::String), any(response_model::String)])) AS models,
        max(superseded) AS marked
    FROM calls
    WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
        AND trace_id IN
        (
            SELECT trace_id
            FROM calls
            WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
                AND scope_name != 'costspan'
        )
    GROUP BY trace_id, span_id
),
parents AS
(
    SELECT trace_id, parent_span_id
    FROM calls
    WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
        AND scope_name != 'costspan'
)
SELECT DISTINCT trace_id, outside.span_id AS span_id, outside.start AS started_at
FROM (SELECT *, arrayJoin([hex(span_id), response]) AS link FROM seen) AS outside
INNER JOIN
(
    SELECT *, arrayJoin([
        hex(parent),
        if(scope = 'costspan' AND (trace_id, span_id) NOT IN parents, response, '')]) AS link
    FROM seen
) AS inside ON inside.trace_id = outside.trace_id AND inside.link = outside.link
WHERE link != ''
    AND inside.span_id != outside.span_id
    AND inside.start >= outside.start - INTERVAL 1 SECOND
    AND inside.end <= outside.end + INTERVAL 1 SECOND
    AND (inside.kind = outside.kind OR inside.kind = '' OR outside.kind = '')
    AND (hasAny(inside.models, outside.models) OR empty(inside.models) OR empty(outside.models))
    AND (inside.response = outside.response OR inside.response = '' OR outside.response = '')
    AND (inside.scope != outside.scope
         OR inside.response = outside.response AND inside.response != '' AND inside.scope != 'costspan')
    AND NOT outside.marked;
