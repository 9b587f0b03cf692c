"""Arrays in, arrays out: neighbors, grids and shapes."""

import lazy_loader

# Lazy: SciPy is loaded where it is used.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
