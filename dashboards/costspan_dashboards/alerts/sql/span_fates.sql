-- A row: what became of the spans that came in a stretch of time.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT
    sumIf(spans, fate = 'refused') AS refused_spans,
    sumIf(spans, fate IN ('calls', 'http_attempts')) AS accepted_spans
FROM span_counts
WHERE hour >= toStartOfHour({since:DateTime('UTC')}) AND hour < {until:DateTime('UTC')}
