"""Pages, plots, tables and style files that present a run to people."""

import lazy_loader

# Lazy: each command loads the parts that it needs.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
