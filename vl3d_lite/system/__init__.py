"""The machine: memory, threads, signals and whole writes."""
