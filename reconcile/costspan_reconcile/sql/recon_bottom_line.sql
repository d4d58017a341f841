-- One row for the closed days of a range: both directions of error, what spans account for, and how
-- much of it nobody can explain yet, be it little on each line.
-- `missing_days`: between the first and the newest day that was ever reconciled, and never themselves.
-- parameters: since Date, until Date, unknown Array(String)
WITH
    days AS
    (
        SELECT day, verdict, billed_usd, estimated_usd
        FROM current_recon_days
        WHERE day >= {since:Date} AND day < {until:Date} AND day_state != 'OPEN'
    ),
    known AS
    (
        SELECT greatest({since:Date}, min(day)) AS first, least({until:Date}, max(day) + 1) AS last
        FROM recon_runs
    ),
    lines AS
    (
        SELECT billed_usd, estimated_usd
        FROM current_recon_lines
        WHERE day >= {since:Date} AND day < {until:Date} AND day_state != 'OPEN'
    ),
    parts AS
    (
        SELECT
            sumIf(amount_usd, amount_usd > 0) AS above_usd,
            sumIf(amount_usd, amount_usd < 0) AS below_usd,
            sumIf(abs(amount_usd), has({unknown:Array(String)}, cause::String)) AS to_review_usd
        FROM current_recon_components
        WHERE day IN (SELECT day FROM days)
    )
SELECT
    arraySort(groupUniqArray(verdict)) AS verdicts,
    count() AS closed_days,
    (
        SELECT greatest(dateDiff('day', any(first), any(last)), 0) FROM known
    ) - (
        SELECT uniqExact(day) FROM recon_runs WHERE day >= {since:Date} AND day < {until:Date}
    ) AS missing_days,
    ifNull(sum(days.billed_usd), 0) AS billed_usd,
    sum(days.estimated_usd) AS estimated_usd,
    (
        SELECT sumIf(least(ifNull(lines.estimated_usd, 0), lines.billed_usd), lines.billed_usd > 0)
        FROM lines
    ) AS captured_usd,
    (SELECT above_usd FROM parts) AS above_usd,
    (SELECT below_usd FROM parts) AS below_usd,
    (SELECT to_review_usd FROM parts) AS to_review_usd
FROM days
