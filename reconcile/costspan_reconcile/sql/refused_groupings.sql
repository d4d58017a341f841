-- One row per source and grouping that was refused since `after` for some of the days in
-- `since` <= day < `until`, and for no others.
-- parameters: since Date, until Date, after DateTime64(6)
SELECT source, since, until, grouped_by, refused_at
FROM refused_groupings AS refused
WHERE
    refused.since >= {since:Date}
    AND refused.until <= {until:Date}
    AND refused_at >= {after:DateTime64(6)}
