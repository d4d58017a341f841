-- One row per UTC day, model and team: what its calls cost before and after a run. Sums are of the
-- calls with a price. `untouched_calls` have a cost that no price book has the last word on.
-- parameters: run_id UUID, since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
SELECT
    toDate(c.started_at, 'UTC') AS day,
    c.model AS model,
    c.team AS team,
    count() AS calls,
    countIf(j.found) AS changed_calls,
    countIf(j.found AND j.old.cost_usd IS NULL AND j.new.cost_usd IS NOT NULL) AS newly_priced_calls,
    countIf(j.found AND j.old.cost_usd IS NOT NULL AND j.new.cost_usd IS NULL) AS no_longer_priced_calls,
    countIf(c.cost_usd IS NOT NULL AND NOT c.priceable) AS untouched_calls,
    sum(if(j.found, j.old.cost_usd, c.cost_usd)) AS old_usd,
    sum(if(j.found, j.new.cost_usd, c.cost_usd)) AS new_usd,
    sum(if(j.found, j.old.list_cost_usd, c.list_cost_usd)) AS old_list_usd,
    sum(if(j.found, j.new.list_cost_usd, c.list_cost_usd)) AS new_list_usd
FROM calls AS c FINAL
LEFT JOIN
(
    SELECT started_at, trace_id, span_id, old, new, true AS found
    FROM reprice_calls
    WHERE run_id = {run_id:UUID}
) AS j ON c.started_at = j.started_at AND c.trace_id = j.trace_id AND c.span_id = j.span_id
WHERE c.started_at >= {since:DateTime64(6, 'UTC')} AND c.started_at < {until:DateTime64(6, 'UTC')}
GROUP BY day, model, team
ORDER BY day, model, team
