-- A row: sums over the five-minute slots of the past of one scope, of its calls n and failed
-- calls k. The slots are those of the hour that ends at `until` and one hour around it, on `days`.
-- parameters: since DateTime('UTC'), until DateTime('UTC'), days Array(UInt16)
SELECT
    dimension,
    value,
    count() AS slots,
    sum(n) AS calls,
    sum(k) AS errors,
    sum(n * n) AS calls_squared,
    sum(k * k) AS errors_squared,
    sum(n * k) AS calls_times_errors
FROM
(
    SELECT
        slot,
        scope.1 AS dimension,
        scope.2 AS value,
        count() AS n,
        countIf(status = 'error') AS k
    FROM
    (
        -- Sixty minutes later in the day, so that the band lies around the slot.
        SELECT
            intDiv(toUnixTimestamp({until:DateTime('UTC')}) * 1000000 - toUnixTimestamp64Micro(started_at) - 1, 60000000) + 60 AS age_minutes,
            intDiv(age_minutes, 5) AS slot,
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
    ARRAY JOIN scopes AS scope
    WHERE has({days:Array(UInt16)}, intDiv(age_minutes, 1440))
        AND age_minutes % 1440 < 180
        AND (scope.1 = '' OR scope.2 != '')
    GROUP BY slot, dimension, value
)
GROUP BY dimension, value
ORDER BY dimension, value
