-- A row: the hour in which the first calls began, and when a call arrived first and last. Only
-- minimum and maximum are read, which a second delivery cannot change: no FINAL.
-- parameters: since DateTime('UTC'), until DateTime('UTC')
SELECT
    (SELECT if(count() = 0, NULL, toNullable(min(hour))) FROM rollup_hours) AS first_hour,
    if(count() = 0, NULL, toNullable(min(received_at))) AS earliest_at,
    if(count() = 0, NULL, toNullable(max(received_at))) AS latest_at
FROM calls
WHERE started_at >= {since:DateTime('UTC')} AND received_at <= {until:DateTime('UTC')}
