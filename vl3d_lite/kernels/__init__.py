"""Kernel files in VL3D's layout, and their pictures."""

import lazy_loader

# Lazy: each command loads the parts that it needs.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
