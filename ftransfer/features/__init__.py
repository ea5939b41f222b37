"""The feature set on disk."""
