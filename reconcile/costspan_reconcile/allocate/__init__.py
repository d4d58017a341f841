"""Give every billed dollar to who caused it: project, team, feature, user and customer."""
