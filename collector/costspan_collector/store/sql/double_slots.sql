-- One row per five minutes in which a call starts that is to be superseded.
-- parameters: since DateTime64(6, 'UTC'), until DateTime64(6, 'UTC')
SELECT DISTINCT toStartOfFiveMinutes(started_at) AS slot
FROM doubles(since = {since:DateTime64(6, 'UTC')}, until = {until:DateTime64(6, 'UTC')})
ORDER BY slot
