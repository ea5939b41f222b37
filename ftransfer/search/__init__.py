"""The race of adaptation pipelines, and the guard that chooses."""
