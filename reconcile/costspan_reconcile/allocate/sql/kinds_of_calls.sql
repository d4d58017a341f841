-- One row per UTC day, project, key hint, model, tier and context of the calls that ended on it, with
-- the meters on which they used something.
-- parameters: days Array(Date), since Date, until Date
SELECT day, project, key_hint, model, tier, context, arraySort(groupUniqArrayArray(mapKeys(used))) AS meters
FROM used_calls(since = {since:Date}, until = {until:Date})
WHERE day IN {days:Array(Date)}
GROUP BY day, project, key_hint, model, tier, context
ORDER BY day, project, key_hint, model, tier, context
SETTINGS do_not_merge_across_partitions_select_final = 1
