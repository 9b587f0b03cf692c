"""What a value may be, taken from the annotations of the schema."""

import types
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
from pydantic.fields import FieldInfo

from vl3d_lite.spec.base import Section

_SCALARS = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Kind:
    """The type of a value.

    Args:
        base: int, float, bool, str, Literal, list, dict, Union or a `Section`.
        choices: Of a Literal.
        item: Of a list, or the values of a dict.
        alternatives: Of a Union.
        limits: Annotated types such as `Ge` and `MinLen`.
        nullable: Whether null is a value.
    """

    base: Any
    choices: tuple[str, ...] = ()
    item: "Kind | None" = None
    alternatives: tuple["Kind", ...] = ()
    limits: tuple = ()
    nullable: bool = False

    @property
    def section(self) -> type[Section] | None:
        """The section a mapping of this kind is read as."""
        is_section = isinstance(self.base, type) and issubclass(self.base, Section)
        return self.base if is_section else None

    @property
    def expected(self) -> str:
        """What the value must be, in the words of a message."""
        if self.base is Union:
            return ", or ".join(kind.expected for kind in self.alternatives)
        if self.base is Literal:
            return f"one of: {', '.join(self.choices)}"
        if self.base is list:
            return f"a list ({self.item.expected} each)"
        if self.base is dict or self.section:
            return "a mapping"
        return _SCALARS.get(self.base, "text")

    @property
    def range(self) -> str:
        """The limits in words, or nothing."""
        return " and ".join(self._words(limit) for limit in self.limits)

    def child(self, segment: str) -> "Kind | None":
        """The kind of one entry or item, None where there is no such key."""
        if self.section:
            return fields_of(self.section).get(segment)
        return self.item

    def broken_limit(self, value) -> str | None:
        """The first limit that a value breaks, in words."""
        for limit in self.limits:
            if not _holds(limit, value):
                return self._words(limit)
        return None

    def _words(self, limit) -> str:
        unit = "characters" if self.base is str else "entries"
        match limit:
            case at.Ge():
                return f"at least {limit.ge}"
            case at.Gt():
                return f"above {limit.gt}"
            case at.Le():
                return f"at most {limit.le}"
            case at.Lt():
                return f"below {limit.lt}"
            case at.MinLen(1):
                return "not empty"
            case at.MinLen():
                return f"at least {limit.min_length} {unit} long"
            case _:
                return f"at most {limit.max_length} {unit} long"


@cache
def fields_of(section: type[Section]) -> dict[str, Kind]:
    """The keys of a section and what each may hold."""
    return {
        name: kind_of(field.annotation, tuple(field.metadata))
        for name, field in section.model_fields.items()
    }


def kind_of(annotation: Any, metadata: tuple = ()) -> Kind:
    """Read an annotation of the schema."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [
            limit
            for extra in arguments[1:]
            for limit in (extra.metadata if isinstance(extra, FieldInfo) else [extra])
        ]
        return kind_of(arguments[0], (*metadata, *inner))
    if origin in (Union, types.UnionType):
        kinds = tuple(kind_of(a) for a in arguments if a is not types.NoneType)
        nullable = types.NoneType in arguments
        if len(kinds) == 1:
            limits = (*kinds[0].limits, *_limits(metadata))
            return replace(kinds[0], nullable=nullable, limits=limits)
        return Kind(Union, alternatives=kinds, nullable=nullable)
    limits = _limits(metadata)
    if origin is Literal:
        return Kind(Literal, choices=arguments)
    if origin in (list, dict):
        return Kind(origin, item=kind_of(arguments[-1]), limits=limits)
    return Kind(annotation, limits=limits)


def _limits(metadata: tuple) -> tuple:
    known = (at.Ge, at.Gt, at.Le, at.Lt, at.MinLen, at.MaxLen)
    return tuple(limit for limit in metadata if isinstance(limit, known))


def _holds(limit, value) -> bool:
    match limit:
        case at.Ge():
            return value >= limit.ge
        case at.Gt():
            return value > limit.gt
        case at.Le():
            return value <= limit.le
        case at.Lt():
            return value < limit.lt
        case at.MinLen():
            return len(value) >= limit.min_length
        case _:
            return len(value) <= limit.max_length
