"""The machine: memory, threads, signals and atomic writing."""

import lazy_loader

# Lazy: the version alone needs none of it.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
