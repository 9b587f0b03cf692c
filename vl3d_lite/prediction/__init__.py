"""From network outputs to votes, confidences and classified files."""

import lazy_loader

# Lazy: `outcomes` and `class_groups` answer without Keras, which `classifier` loads.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
