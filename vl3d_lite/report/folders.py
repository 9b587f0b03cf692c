"""Texts without the folders of the machine, for pages that others read."""

import re
from collections.abc import Mapping
from typing import Any

__all__ = ["without_folders"]

# An absolute path up to its last part; not the rest of a relative one, nor an address.
_FOLDERS = re.compile(r"(?<![\w.~:/*-])/(?:[^\s'\",;()\[\]{}/]+/)+")


def without_folders(value: Any) -> Any:
    """Replace the folders of absolute paths by an ellipsis.

    Args:
        value: A text, or mappings and lists of them; other values stay as they are.
    """
    if isinstance(value, str):
        return _FOLDERS.sub("\N{HORIZONTAL ELLIPSIS}/", value)
    if isinstance(value, Mapping):
        return {
            without_folders(key): without_folders(item) for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return value
