"""Scores that need no target labels."""
