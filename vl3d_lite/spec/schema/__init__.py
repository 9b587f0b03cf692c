"""The keys of a spec: names, types, units, ranges and defaults."""
