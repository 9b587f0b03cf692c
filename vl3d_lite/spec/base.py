"""The base class of the sections of a spec."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Code = Annotated[int, Field(ge=0, le=255)]
KeyPath = tuple[str | int, ...]


def as_list(value: Any) -> Any:
    """A value that may stand alone, as the list of one that it means."""
    return value if isinstance(value, list | tuple) else [value]


# Codes of an extra dimension may be any 32-bit number; one may stand without a list.
LabelCodes = Annotated[
    list[Annotated[int, Field(ge=-(2**31), lt=2**31)]],
    BeforeValidator(as_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer"},
                {"type": "array", "items": {"type": "integer"}},
            ]
        }
    ),
]
Files = Annotated[
    list[str],
    BeforeValidator(as_list),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    ),
]


class Violation(NamedTuple):
    """Values that are valid each but not together.

    Args:
        message: What was expected and what was received.
        locations: Keys to report the message at, the best first, relative to the
            section.
    """

    message: str
    locations: tuple[KeyPath, ...]


class Section(BaseModel):
    """A part of the spec: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    short_form: ClassVar[str | None] = None
    """The key that receives the value where a scalar replaces the mapping."""

    def violations(self) -> list[Iterator[Violation]]:
        """Independent checks for values that contradict each other.

        The reader also runs these checks on an incomplete section, which lacks
        each value that already has an error; a check ends at such a value with an
        `AttributeError`, and the other checks still run.
        """
        return []

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, value: Any) -> Any:
        if cls.short_form is None or isinstance(value, dict | cls):
            return value
        return {cls.short_form: value}

    @model_validator(mode="after")
    def _raise_violations(self) -> Self:
        messages = [
            f"{'.'.join(map(str, violation.locations[0]))}: {violation.message}"
            for check in self.violations()
            for violation in check
        ]
        if messages:
            raise ValueError("; ".join(messages))
        return self
