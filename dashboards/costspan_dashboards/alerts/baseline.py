"""Scores of a series: how far each value is from what its own past lets expect."""
