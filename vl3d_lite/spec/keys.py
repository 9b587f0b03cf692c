"""Names of keys in error messages, and messages about unknown keys."""

from collections.abc import Iterator
from functools import cache

from vl3d_lite.spec.base import KeyPath, Section
from vl3d_lite.spec.kinds import Kind, fields_of, kind_of
from vl3d_lite.spec.renamed import renamed_key
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.spec.suggestions import closest

# A key of another section must be more similar than a key of the section itself.
_SIMILARITY_ELSEWHERE = 0.8


def key_name(location: KeyPath) -> str:
    """The name of a key path, such as `model.stages[0].points`."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".")


def unknown_key(location: KeyPath, section: type[Section]) -> str:
    """The error message for a key that a section does not have.

    Args:
        location: The key path; its last part is the unknown key.
        section: The section that does not have the key.
    """
    key, own = str(location[-1]), list(fields_of(section))
    if new := renamed_key(location):
        now = key_name((*location[:-1], new))
        return f"`{key_name(location)}` has been renamed; use `{now}`"
    message = f"unknown key `{key_name(location)}`"
    if match := closest(key, own):
        return f"{message}; did you mean `{match}`?"
    if key in all_keys():
        return f"{message}; `{key}` belongs to the top level of the spec"
    elsewhere = {
        name.rpartition(".")[2]: name for name in reversed(all_keys()) if "." in name
    }
    if key in elsewhere:
        return f"{message}; did you mean `{elsewhere[key]}`?"
    where = f"`{key_name(location[:-1])}`" if location[1:] else "the spec"
    message += f". Keys of {where}: {', '.join(own)}"
    if match := closest(key, elsewhere, _SIMILARITY_ELSEWHERE):
        message += f". A similar key of another section: `{elsewhere[match]}`"
    return message


@cache
def all_keys() -> list[str]:
    """Every key of the schema, such as `model.stages[].points`."""

    def walk(kind: Kind, name: str) -> Iterator[str]:
        if kind.section:
            for key, child in fields_of(kind.section).items():
                full = f"{name}.{key}".removeprefix(".")
                yield full
                yield from walk(child, full)
        for option in kind.alternatives:
            yield from walk(option, name)
        if kind.item:
            suffix = "[]" if kind.base is list else ".<name>"
            yield from walk(kind.item, name + suffix)

    return list(walk(kind_of(Spec), ""))
