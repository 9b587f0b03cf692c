"""`vl3d-lite plan`: memory, time and disk use of a run, estimated before it."""
