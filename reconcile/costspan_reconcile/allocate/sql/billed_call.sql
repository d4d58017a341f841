-- One row per line item in which a call has a part: what it was billed in it.
-- parameters: day Date, trace_id String (32 hex digits), span_id String (16 hex digits)
SELECT line_item, sum(billed_usd) AS billed_usd
FROM billed_calls(day = {day:Date}, trace_id = {trace_id:String})
WHERE span_id = unhex({span_id:String})
GROUP BY line_item
ORDER BY line_item
