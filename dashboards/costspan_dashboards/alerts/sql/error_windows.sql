-- A row: calls and failed calls of one scope (an empty dimension is all calls) in one window
-- that ends at `until`.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), windows_minutes Array(UInt16)
SELECT
    window_minutes,
    scope.1 AS dimension,
    scope.2 AS value,
    count() AS calls,
    countIf(status = 'error') AS errors
FROM
(
    SELECT
        intDiv(toUnixTimestamp({until:DateTime('UTC')}) * 1000000 - toUnixTimestamp64Micro(started_at) - 1, 60000000) AS age_minutes,
        status,
        [
            ('', ''),
            ('feature', toString(feature)),
            ('model', if(request_model = '', toString(response_model), toString(request_model))),
            ('team', toString(team)),
            ('project', toString(project))
        ] AS scopes
    FROM calls FINAL
    WHERE started_at >= {since:DateTime('UTC')} AND started_at < {until:DateTime('UTC')}
)
ARRAY JOIN {windows_minutes:Array(UInt16)} AS window_minutes
ARRAY JOIN scopes AS scope
WHERE age_minutes < window_minutes AND (scope.1 = '' OR scope.2 != '')
GROUP BY window_minutes, dimension, value
ORDER BY window_minutes, dimension, value
