"""LAS point clouds in, classified LAS point clouds out."""

import lazy_loader

# Lazy: `import vl3d_lite` answers at once, and loads Keras only where a name needs it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
