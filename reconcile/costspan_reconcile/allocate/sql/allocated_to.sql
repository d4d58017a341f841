-- One row per value of a dimension, or team and feature, most dollars first; those after `most` are
-- one, and what is nobody's is another, but for projects, which have their own.
-- parameters: since Date, until Date, by String ('team and feature', 'team', 'feature', 'user',
--   'customer' or 'project'), most UInt32
SELECT
    if(is_other, '', name) AS value,
    if(is_other, '', feature_name) AS feature,
    is_nobody,
    place > {most:UInt32} AND NOT is_nobody AS is_other,
    sum(direct) AS direct_usd,
    sum(shared) AS shared_usd,
    sum(unattributed) AS unattributed_usd,
    sum(billed) AS billed_usd
FROM
(
    SELECT
        multiIf(
            {by:String} = 'project', project,
            {by:String} = 'user', user,
            {by:String} = 'customer', customer,
            {by:String} = 'feature', feature,
            team
        ) AS name,
        if({by:String} = 'team and feature', feature, '') AS feature_name,
        kind = 'unattributed' AND {by:String} != 'project' AS is_nobody,
        sumIf(amount_usd, kind = 'direct') AS direct,
        sumIf(amount_usd, kind = 'shared') AS shared,
        sumIf(amount_usd, kind = 'unattributed') AS unattributed,
        sum(amount_usd) AS billed,
        row_number() OVER (ORDER BY is_nobody, billed DESC, name, feature_name) AS place
    FROM current_allocations
    WHERE day >= {since:Date} AND day < {until:Date}
    GROUP BY name, feature_name, is_nobody
)
GROUP BY value, feature, is_nobody, is_other
ORDER BY is_nobody, is_other, billed_usd DESC, value, feature
