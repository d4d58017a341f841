"""The pages: each draws what `queries` returned."""
