"""A run on disk: names and provenance."""
