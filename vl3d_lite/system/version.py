"""The version of this package."""

# Kept here and not in `vl3d_lite`, whose lazy names lead to every other package.
__version__ = "0.2.0"
