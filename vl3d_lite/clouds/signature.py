"""The record in a copy of a cloud that names the program that wrote it."""

from dataclasses import dataclass

SOFTWARE = slice(58, 90)  # bytes of `generating_software` in the header


@dataclass(frozen=True)
class Signature:
    """The record in a copy that names the program that wrote it.

    Args:
        software: For `generating_software` of the header, which holds 32 characters
            of ASCII; it is cut, and other characters become `?`.
        key: User id and record id of a variable length record; a record of this key
            in the input is replaced.
        data: Its data.
        description: At most 32 bytes of ASCII.
    """

    software: str
    key: tuple[str, int]
    data: bytes
    description: str

    @property
    def software_bytes(self) -> bytes:
        """The 32 bytes of `generating_software`."""
        return self.software.encode("ascii", "replace")[:32].ljust(32, b"\0")
