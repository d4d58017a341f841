"""Show what the store holds, and raise alerts on it."""
