"""From YAML to frozen objects."""
