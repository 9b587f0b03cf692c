"""Arrays in, arrays out: neighbors, grids and shapes."""
