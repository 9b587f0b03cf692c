"""Differences between two specs, key by key."""

from collections.abc import Iterator
from typing import Any


def differing(now: Any, before: Any, key: str) -> Iterator[tuple[str, Any, Any]]:
    """Compare two dumped specs.

    Args:
        now: A mapping, list or scalar.
        before: The value to compare with.
        key: The key path of both, such as ``model``.

    Yields:
        Key path, value now and value before of each entry that differs. Lists of
        different lengths are reported by their lengths.
    """
    if isinstance(now, dict) and isinstance(before, dict):
        for name in {**now, **before}:
            yield from differing(now.get(name), before.get(name), f"{key}.{name}")
    elif isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        for number, (one, other) in enumerate(zip(now, before, strict=True)):
            yield from differing(one, other, f"{key}[{number}]")
    elif now != before:
        if isinstance(now, list):
            now, before = f"of {len(now)} entries", f"of {len(before or [])}"
        yield key, now, before
