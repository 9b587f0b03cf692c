"""Differences between two specs, key by key."""

from collections.abc import Iterator


def differing(now, before, key: str) -> Iterator[tuple[str, object, object]]:
    """Key, value now and value before of each entry that is another one."""
    if isinstance(now, dict) and isinstance(before, dict):
        for name in now:
            yield from differing(now[name], before.get(name), f"{key}.{name}")
    elif isinstance(now, list) and isinstance(before, list) and len(now) == len(before):
        for number, (one, other) in enumerate(zip(now, before, strict=True)):
            yield from differing(one, other, f"{key}[{number}]")
    elif now != before:
        if isinstance(now, list):
            now, before = f"of {len(now)} entries", f"of {len(before or [])}"
        yield key, now, before
