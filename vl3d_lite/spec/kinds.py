"""Types and limits of values, taken from the annotations of the schema."""

import types
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types as at
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from vl3d_lite.spec.base import Section, as_list

_SCALARS = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Kind:
    """The type of a value.

    Args:
        base: int, float, bool, str, Literal, list, dict, Union or a `Section`.
        choices: Values of a Literal.
        item: Kind of the items of a list, or of the values of a dict.
        alternatives: Members of a Union.
        limits: Constraints of `annotated_types`, such as `Ge` and `MinLen`.
        nullable: Whether null is a valid value.
        single: Whether one item may stand without its list.
    """

    base: Any
    choices: tuple[str, ...] = ()
    item: "Kind | None" = None
    alternatives: tuple["Kind", ...] = ()
    limits: tuple[Any, ...] = ()
    nullable: bool = False
    single: bool = False

    @property
    def section(self) -> type[Section] | None:
        """The section that a mapping of this kind is read as, or None."""
        is_section = isinstance(self.base, type) and issubclass(self.base, Section)
        return self.base if is_section else None

    @property
    def expected(self) -> str:
        """The type in the words of an error message."""
        if self.base is Union:
            return ", or ".join(kind.expected for kind in self.alternatives)
        if self.base is Literal:
            return f"one of: {', '.join(self.choices)}"
        if self.base is list:
            return f"a list ({self.element.expected} each)"
        if self.base is dict or self.section:
            return "a mapping"
        return _SCALARS.get(self.base, "text")

    @property
    def element(self) -> "Kind":
        """The kind of the items of a list, or of the values of a dict."""
        assert self.item is not None, f"{self.base} has no items"
        return self.item

    @property
    def range(self) -> str:
        """The limits in words, or an empty text."""
        return " and ".join(self._words(limit) for limit in self.limits)

    def child(self, segment: str) -> "Kind | None":
        """The kind of an entry or item; None where the key is unknown."""
        for option in (self, *self.alternatives):
            if option.section:
                return fields_of(option.section).get(segment)
        return self.item

    def violated_limit(self, value: Any) -> str | None:
        """The first limit that a value violates, in words, or None."""
        for limit in self.limits:
            if not _holds(limit, value):
                return self._words(limit)
        return None

    def _words(self, limit: Any) -> str:
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
    """The keys of a section and the kind of each value."""
    return {
        name: kind_of(field.annotation, tuple(field.metadata))
        for name, field in section.model_fields.items()
    }


def kind_of(annotation: Any, metadata: tuple[Any, ...] = ()) -> Kind:
    """The kind that an annotation of the schema stands for."""
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
        single = any(
            isinstance(extra, BeforeValidator) and extra.func is as_list
            for extra in metadata
        )
        return Kind(origin, item=kind_of(arguments[-1]), limits=limits, single=single)
    return Kind(annotation, limits=limits)


def _limits(metadata: tuple[Any, ...]) -> tuple[Any, ...]:
    # Other metadata, such as pydantic's, sets no limit on a value.
    known = (at.Ge, at.Gt, at.Le, at.Lt, at.MinLen, at.MaxLen)
    return tuple(limit for limit in metadata if isinstance(limit, known))


def _holds(limit: Any, value: Any) -> bool:
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
