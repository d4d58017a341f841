-- One row per reconciled line of a month: the sums of its shares, and a hash of them.
-- parameters: since Date, until Date
SELECT '' AS name, formatRowNoNewline('JSONEachRow', *) AS line
FROM
(
    SELECT
        day,
        project,
        api_key_id,
        line_item,
        count() AS shares,
        sumIf(share.amount_usd, kind = 'direct') AS direct_usd,
        sumIf(share.amount_usd, kind = 'shared') AS shared_usd,
        sumIf(share.amount_usd, kind = 'unattributed') AS unattributed_usd,
        sum(share.amount_usd) AS amount_usd,
        lower(hex(SHA256(arrayStringConcat(
            arraySort(groupArray(toString((kind, rule, team, feature, user, customer, share.amount_usd)))), ' '
        )))) AS shares_sha256
    FROM current_allocations AS share
    WHERE day >= {since:Date} AND day < {until:Date}
    GROUP BY day, project, api_key_id, line_item
)
ORDER BY day, project, api_key_id, line_item
SETTINGS
    output_format_json_quote_decimals = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_escape_forward_slashes = 0
