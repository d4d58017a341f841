-- One row per project, key hint, model, tier and context of the calls that ended on a UTC day, with
-- the meters on which they used something.
-- parameters: day Date
SELECT project, key_hint, model, tier, context, arraySort(groupUniqArrayArray(mapKeys(used))) AS meters
FROM used_calls(since = {day:Date}, until = {day:Date} + 1)
GROUP BY project, key_hint, model, tier, context
ORDER BY project, key_hint, model, tier, context
SETTINGS do_not_merge_across_partitions_select_final = 1
