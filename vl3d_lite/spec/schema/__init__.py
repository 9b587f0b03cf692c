"""What a spec may contain: names, types, units, ranges and defaults."""
