"""The cache of prepared clouds in a spec."""

from typing import ClassVar, Literal

from vl3d_lite.spec.base import PositiveFloat, Section


class CacheSpec(Section):
    """Cache of prepared clouds, so that a second training starts at once."""

    short_form: ClassVar[str] = "use"

    use: Literal["on", "off"] = "on"
    """Store prepared training and validation clouds, and map them into memory instead
    of holding them there. The cache changes no result."""
    folder: str | None = None
    """Folder of the cache, relative to the spec; by default the one that the
    environment variable VL3D_LITE_CACHE names, or `vl3d-lite` in the user's cache
    folder."""
    max_gigabytes: PositiveFloat = 20.0
    """Largest size of the cache in GB (10^9 bytes). The least recently used entries are
    removed first; clouds that do not fit stay in memory."""
