-- One row: what became of the spans that came since a moment, in whole hours.
-- parameters: since DateTime64(6, 'UTC')
SELECT
    toUInt64(sum(received)) AS received,
    toUInt64(sum(refused)) AS refused,
    toInt64(sum(duplicates)) AS duplicates,
    toUInt64(sum(queue_full) + sum(failed)) AS dropped_by_apps
FROM span_balance
WHERE hour > {since:DateTime64(6, 'UTC')}
