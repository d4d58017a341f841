-- One row per instrumentation but ours that saw calls of a stretch: without one, no call is there twice.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
SELECT DISTINCT toString(scope_name) AS scope
FROM calls
WHERE started_at >= {since:DateTime64(6, 'UTC')} AND started_at < {until:DateTime64(6, 'UTC')}
    AND scope_name != 'costspan'
