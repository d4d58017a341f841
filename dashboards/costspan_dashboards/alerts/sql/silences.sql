-- A row: a silence that goes on or is to come, as it was changed at last.
-- parameters: now DateTime64(3, 'UTC')
SELECT silence_id, matchers, author, comment, starts_at, ends_at, at
FROM silences FINAL
WHERE ends_at > {now:DateTime64(3, 'UTC')}
ORDER BY ends_at, silence_id
