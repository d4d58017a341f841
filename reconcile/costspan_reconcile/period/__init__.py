"""From a month whose bill stands still to one that is signed, and never changes again."""
