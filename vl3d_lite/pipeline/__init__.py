"""The commands, one per file: where files meet models."""
