"""What helps before and after a run: init, plan, compare, convert, doctor, verify."""
