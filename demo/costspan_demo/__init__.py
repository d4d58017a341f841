"""A local OpenAI that bills, and traffic for it."""
