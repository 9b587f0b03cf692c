"""Tensors: layers, networks and the backend. Keras lives here.

Example:
    >>> import vl3d_lite
    >>> vl3d_lite.model.layers.KPConvXLayer(DH=8, groups=4).groups
    4
"""

import lazy_loader

# Lazy: `cost` and `compilation` answer without Keras, which `layers` loads.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
