"""A run on disk: names and provenance."""

from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.history import read_history, write_history
from vl3d_lite.runs.options import Options

__all__ = ["Options", "RunFolder", "read_history", "write_history"]
