-- One row per UTC day in which the answer ended, project, key hint, model, tier, context and whether
-- there is a price: what the spans counted and what was estimated for it, by meter, and how many
-- calls ended before they told their usage, with their bounds.
-- parameters: since Date, until Date
SELECT
    day,
    project,
    key_hint,
    model,
    tier,
    context,
    priced,
    count() AS calls,
    countIf(unpriced) AS unpriced_calls,
    countIf(has_usage) AS counted_calls,
    countIf(is_unseen) AS unseen_calls,
    countIf(is_unseen AND mapContains(estimate, 'output_tokens_high')) AS bounded_calls,
    sumIf(toUInt64OrZero(estimate['input_tokens']), is_unseen) AS unseen_input,
    sumIf(toUInt64OrZero(estimate['output_tokens_high']), is_unseen) AS unseen_output,
    sum(toUInt64(retries)) AS retries,
    arraySort(groupUniqArray(request_model)) AS asked_for,
    sumMap(used) AS quantities,
    sumMap(mapApply((meter, quantity) -> (meter, toUInt64(1)), used)) AS calls_by_meter,
    sumMap(parts) AS parts_usd
FROM used_calls(since = {since:Date}, until = {until:Date})
GROUP BY day, project, key_hint, model, tier, context, priced
ORDER BY day, project, key_hint, model, tier, context, priced
SETTINGS do_not_merge_across_partitions_select_final = 1
