-- One row: the values that calls of a stretch of time carry, for the filter bar.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
SELECT
    arraySort(groupUniqArray(500)(c.team::String)) AS teams,
    arraySort(groupUniqArray(500)(c.feature::String)) AS features,
    arraySort(groupUniqArray(500)(if(c.response_model = '', c.request_model, c.response_model)::String)) AS models,
    arraySort(groupUniqArray(500)(c.project::String)) AS projects
FROM calls AS c
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
