"""Pages, plots, tables and style files that present a run to people."""
