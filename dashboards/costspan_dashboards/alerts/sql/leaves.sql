-- A row: the calls with one value in every dimension: what they did in the window that ends at
-- `until`, and in the hour of the same time of day on past days. Only the hundred users with the
-- most calls or the most dollars now are told apart. A failed call names no response model, so
-- errors go by the model asked for, all else by the model that answered.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), days Array(UInt16),
--   window_minutes UInt16, rule String
WITH slots AS
(
    SELECT
        intDiv(toUnixTimestamp({until:DateTime('UTC')}) * 1000000 - toUnixTimestamp64Micro(started_at) - 1, 60000000) AS age_minutes,
        intDiv(age_minutes, 1440) AS day,
        day = 0 AND age_minutes < {window_minutes:UInt16} AS is_now,
        toString(feature) AS feature,
        if(({rule:String} = 'errors' AND request_model != '') OR response_model = '', toString(request_model), toString(response_model)) AS model,
        toString(team) AS team,
        user,
        toString(project) AS project,
        toString(key_hint) AS key,
        multiIf(status = 'ok', '', error_type = '', 'unknown', toString(error_type)) AS error_type,
        duration_us,
        ifNull(cost_usd, toDecimal64(0, 12)) AS slot_cost_usd
    FROM calls FINAL
    WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
        AND age_minutes % 1440 < 60
        AND (day = 0 OR has({days:Array(UInt16)}, day))
),
usual AS
(
    SELECT feature, model, quantileExact(0.95)(duration_us) AS p95_us
    FROM slots
    WHERE day > 0 AND error_type = ''
    GROUP BY feature, model
    HAVING count() >= 20
),
users AS
(
    SELECT user FROM slots WHERE is_now GROUP BY user ORDER BY count() DESC, user LIMIT 100
    UNION DISTINCT
    SELECT user FROM slots WHERE is_now GROUP BY user ORDER BY sum(slot_cost_usd) DESC, user LIMIT 100
)
SELECT
    slots.feature AS feature,
    slots.model AS model,
    team,
    if(slots.user IN (SELECT user FROM users), slots.user, '') AS user,
    project,
    key,
    error_type,
    countIf(is_now) AS calls,
    countIf(is_now AND error_type = '' AND p95_us > 0 AND duration_us > p95_us) AS slow_calls,
    sumIf(slot_cost_usd, is_now) AS cost_usd,
    countIf(day > 0) AS usual_calls,
    sumIf(slot_cost_usd, day > 0) AS usual_cost_usd
FROM slots
LEFT JOIN usual ON slots.feature = usual.feature AND slots.model = usual.model
WHERE is_now OR day > 0
GROUP BY feature, model, team, user, project, key, error_type
ORDER BY feature, model, team, user, project, key, error_type
