-- A row: a name that calls of a model are shown by: a snapshot of it that answered, or its own where none did.
-- parameters: asked String, since DateTime('UTC'), until DateTime('UTC')
SELECT DISTINCT toString(c.model) AS model
FROM calls AS c
WHERE c.started_at >= {since:DateTime('UTC')} AND c.started_at < {until:DateTime('UTC')}
    AND c.request_model = {asked:String}
ORDER BY model
