-- One row: the values that calls of a stretch of time carry, for the filter bar.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
SELECT
    arraySort(groupUniqArray(500)(c.team::String)) AS teams,
    arraySort(groupUniqArray(500)(c.feature::String)) AS features,
    arraySort(groupUniqArray(500)(c.model::String)) AS models,
    arraySort(groupUniqArray(500)(c.project::String)) AS projects
FROM costs(
    since = {since:DateTime64(6, 'UTC')},
    until = {until:DateTime64(6, 'UTC')},
    counted = (
        SELECT groupArray(hour)
        FROM counted_hours(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')}, by_hour = true)
    )
) AS c
