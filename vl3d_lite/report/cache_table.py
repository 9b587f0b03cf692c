"""What is in a cache of prepared clouds, as text."""

import time

from vl3d_lite.report.text import table
from vl3d_lite.system import CacheFolder


def cache_text(cache: CacheFolder) -> str:
    """List the clouds of a cache, those used last first, and count its facts.

    Args:
        cache: The cache; its folder need not exist.
    """
    entries = sorted(cache.entries(), key=lambda entry: -entry.last_use)
    clouds = [entry for entry in entries if entry.kind == "clouds"]
    facts = [entry for entry in entries if entry.kind == "facts"]
    rows = [["size", "last use", "source"]]
    for entry in clouds:
        moment = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.last_use))
        rows.append([_size(entry.size), moment, entry.source() or "damaged"])
    total = (
        f"{cache.root}: {len(clouds)} prepared clouds "
        f"({_size(sum(entry.size for entry in clouds))}), {len(facts)} facts "
        f"({_size(sum(entry.size for entry in facts))})\n"
    )
    return f"{table(rows)}\n{total}" if clouds else total


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
