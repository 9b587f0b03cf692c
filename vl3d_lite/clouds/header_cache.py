"""Headers of files that were read before and have not changed since."""

from vl3d_lite.clouds.header import FileHeader
from vl3d_lite.system import FileCache, Identity

# A header takes a few kilobytes: the clouds of a large survey are kept, and a
# file made of records fills no memory.
MOST_HEADERS = 4096
MOST_RECORDS = 256


class HeaderCache(FileCache[FileHeader]):
    """The headers of the files that were read last, but for very long ones."""

    def __init__(self, most: int = MOST_HEADERS) -> None:
        super().__init__(most)

    def put(
        self,
        identity: Identity,
        value: FileHeader,
        settings: str = "",
        *,
        began: float | None = None,
    ) -> None:
        """Keep a header, unless its file may be changing or it is very long."""
        if len(value.vlrs) + len(value.evlrs) <= MOST_RECORDS:
            super().put(identity, value, settings, began=began)
