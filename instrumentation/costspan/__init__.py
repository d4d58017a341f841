"""One import that records what your OpenAI calls cost."""
