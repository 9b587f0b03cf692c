"""Classes, clouds, features and receptive fields of a spec."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from vl3d_lite.spec.base import Code, PositiveFloat, Section, Violation

COMPUTED_FEATURES = (
    "height",
    "height_above_ground",
    "return_ratio",
    "relative_intensity",
    "vertical",
    "density",
    "linearity",
    "planarity",
    "verticality",
    "curvature",
)
EIGENVALUE_FEATURES = ("linearity", "planarity", "verticality", "curvature")


class ClassSpec(Section):
    """One class: the LAS codes that mean it and the code it is written as."""

    short_form: ClassVar[str] = "codes"

    codes: list[Code] = Field(min_length=1)
    """LAS classification codes that carry this class."""
    output_code: Code | None = None
    """Code written for this class. Needed where `codes` names several."""

    @field_validator("codes", mode="before")
    @classmethod
    def _one_code_is_a_list(cls, value):
        return value if isinstance(value, list | tuple) else [value]

    def violations(self) -> list[Iterator[Violation]]:
        return [self._what_to_write_troubles()]

    def _what_to_write_troubles(self) -> Iterator[Violation]:
        if self.output_code is None and len(self.codes) > 1:
            yield Violation(
                "a class of several codes needs `output_code`, the code it is written "
                f"as. Received: codes {self.codes} only",
                (("codes",),),
            )

    @property
    def code(self) -> int:
        """The LAS code written for this class."""
        return self.codes[0] if self.output_code is None else self.output_code


Flag = Literal["withheld", "overlap", "synthetic", "key_point"]


class CloudsSpec(Section):
    """LAS and LAZ files: paths, globs or folders, relative to the spec."""

    train: list[str] = Field([])
    """Labelled clouds to learn from."""
    validation: list[str] = Field([])
    """Labelled clouds that choose the best epoch."""
    predict: list[str] = Field([])
    """Clouds `run` predicts; those that carry labels are evaluated."""


class FeatureSpec(Section):
    """One input of the network: a LAS dimension or a computed feature."""

    short_form: ClassVar[str] = "name"

    name: str = Field(min_length=1)
    """A LAS dimension, an extra dimension, or one of the computed features:
    height, height_above_ground, return_ratio, relative_intensity, vertical,
    density, linearity, planarity, verticality, curvature."""
    radius: PositiveFloat | None = None
    """Radius of the neighborhood a computed feature looks at, in meters."""
    radii: list[PositiveFloat] | None = Field(default=None, min_length=1)
    """Several radii in meters: one feature each."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._radius_troubles()]

    def _radius_troubles(self) -> Iterator[Violation]:
        if self.radius is not None and self.radii is not None:
            yield Violation("give `radius` or `radii`, not both", (("radii",),))
        needs = (*EIGENVALUE_FEATURES, "density")
        has = self.radius is not None or self.radii is not None
        may = (*needs, "height", "height_above_ground")
        if has and self.name not in may:
            close = get_close_matches(self.name, may, n=1)
            guess = f"; did you mean `{close[0]}`?" if close else ""
            yield Violation(
                f"`{self.name}` has no radius, only {', '.join(may)} have one{guess}",
                (("radius",), ("radii",)),
            )
        if not has and self.name in needs:
            yield Violation(
                f"`{self.name}` needs a radius in meters: "
                f"{{name: {self.name}, radius: 1.5}}",
                (("name",),),
            )


def feature_columns(specs: Sequence[FeatureSpec]) -> list[str]:
    """Names of the network's inputs: one a feature, or one a radius."""
    return [
        spec.name if radius is None else f"{spec.name}_{radius:g}"
        for spec in specs
        for radius in spec.radii or [spec.radius]
    ]


class FieldsSpec(Section):
    """Receptive fields: the pieces of a cloud the network sees at once."""

    shape: Literal["cylinder", "sphere", "box", "nearest"] = "cylinder"
    """Cylinder (vertical, unbounded), sphere, box, or the nearest points."""
    radius: PositiveFloat | None = None
    """Radius of a cylinder or sphere in meters; farthest reach of `nearest`."""
    size: list[PositiveFloat] | None = Field(default=None, min_length=2, max_length=3)
    """Edge lengths of a box in meters: two (unbounded in height) or three."""
    grid_size: PositiveFloat
    """Edge of the cells a cloud is first reduced to, in meters."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the radius (or half edge) that neighboring fields share."""
    sampling: Literal["grid", "farthest"] = "grid"
    """How a field is reduced to the points of each stage: nested grid cells
    of the whole cloud, or farthest-point sampling inside each field."""
    interlevel_neighbors: Literal["parents", "nearest"] = "parents"
    """Down- and upsampling neighbors: grid parents, or nearest points. Nearest
    points in any case where `sampling` is `farthest`, which has no parents."""
    training_centers: Literal["balanced", "random", "grid", "farthest"] = "balanced"
    """Where training fields are centered; `balanced` draws every class alike."""
    prediction_centers: Literal["grid", "farthest"] = "grid"
    """Where fields are centered in validation and prediction."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._shape_troubles()]

    def _shape_troubles(self) -> Iterator[Violation]:
        if self.shape == "box":
            if self.size is None:
                yield Violation(
                    "a box needs `size: [x, y]` or `size: [x, y, z]` in meters",
                    (("shape",),),
                )
            if self.radius is not None:
                yield Violation("a box has a `size`, not a `radius`", (("radius",),))
        else:
            if self.size is not None:
                yield Violation(
                    f"a {self.shape} has a `radius`, not a `size`", (("size",),)
                )
            if self.radius is None and self.shape != "nearest":
                yield Violation(
                    f"a {self.shape} needs a `radius` in meters", (("shape",),)
                )
        reach = self.reach
        if reach is not None and reach < self.grid_size:
            yield Violation(
                f"a field must reach at least one cell of `grid_size` = "
                f"{self.grid_size:g} m. Received: a reach of {reach:g} m",
                (("radius",), ("size",), ("grid_size",)),
            )

    @model_validator(mode="after")
    def _farthest_points_have_no_parents(self):
        if self.sampling == "farthest" and self.interlevel_neighbors == "parents":
            object.__setattr__(self, "interlevel_neighbors", "nearest")
        return self

    @property
    def reach(self) -> float | None:
        """Radius, or half of the shortest horizontal edge, in meters."""
        return min(self.size[:2]) / 2 if self.size else self.radius
