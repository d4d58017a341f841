-- One row per source, day, project, key, model, batch, tier, origin, modality and kind of
-- the newest revision of each source and day.
-- parameters: since Date, until Date
SELECT
    source,
    day,
    project,
    api_key_id,
    model,
    batch,
    service_tier,
    modality,
    kind,
    quantity,
    revision,
    fetch_id,
    api_source
FROM provider_usage
WHERE
    day >= {since:Date} AND day < {until:Date}
    AND (source, day, fetch_id) IN
    (
        SELECT source, day, revision_fetch_id
        FROM good_readings
        WHERE source != 'costs' AND day >= {since:Date} AND day < {until:Date}
    )
ORDER BY source, day, project, api_key_id, model, batch, service_tier, api_source, modality, kind
