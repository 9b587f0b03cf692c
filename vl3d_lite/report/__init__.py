"""What a person reads: pages, maps, tables and colors."""
