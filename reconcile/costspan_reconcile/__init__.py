"""Hold what OpenAI billed against what the spans say."""
