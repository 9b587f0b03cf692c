"""LAS point clouds in, classified LAS point clouds out."""

from vl3d_lite.system.version import __version__

__all__ = ["__version__"]
