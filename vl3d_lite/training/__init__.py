"""Fitting and resuming, losses, optimizers and the memory a run will need."""

import lazy_loader

# Lazy: `memory` and `remedies` answer without Keras, which `loop` loads.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
