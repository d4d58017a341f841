-- One row per project key ever listed.
-- parameters: none
SELECT project, project_name, api_key_id, name, hint
FROM api_keys FINAL
ORDER BY project, api_key_id
