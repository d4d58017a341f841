-- One row: the organization that the bill last named; none where it never did.
-- parameters: none
SELECT organization
FROM billed_lines
WHERE organization != ''
ORDER BY day DESC, revision DESC
LIMIT 1
