"""What every section of a spec has in common."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Code = Annotated[int, Field(ge=0, le=255)]
KeyPath = tuple[str | int, ...]


class Violation(NamedTuple):
    """Values that do not go together.

    Args:
        message: What was expected and what came.
        locations: Where to look, the best place first, relative to the section.
    """

    message: str
    locations: tuple[KeyPath, ...]


class Section(BaseModel):
    """A part of the spec: unknown keys are errors, values do not change."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )
    short_form: ClassVar[str | None] = None
    """The key a value stands for that is no mapping."""

    def violations(self) -> list[Iterator[Violation]]:
        """Searches for what does not go together, each on its own.

        A reader also runs them on a section that lacks the values it has already
        complained about; a search ends where it meets one of these.
        """
        return []

    @model_validator(mode="before")
    @classmethod
    def _expand_short_form(cls, value):
        if cls.short_form is None or isinstance(value, dict | cls):
            return value
        return {cls.short_form: value}

    @model_validator(mode="after")
    def _raise_troubles(self):
        messages = [
            f"{'.'.join(map(str, trouble.locations[0]))}: {trouble.message}"
            for search in self.violations()
            for trouble in search
        ]
        if messages:
            raise ValueError("; ".join(messages))
        return self
