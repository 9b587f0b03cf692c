"""LAS and LAZ files, byte for byte."""

import lazy_loader

# Lazy: `files` answers without laspy and lazrs.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
