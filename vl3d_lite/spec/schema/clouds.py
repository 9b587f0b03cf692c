"""Classes, clouds, features and receptive fields of a spec."""

from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from vl3d_lite.spec.base import Code, PositiveFloat, Section, Violation, as_list
from vl3d_lite.spec.schema.labels import CloudGroupSpec
from vl3d_lite.spec.suggestions import did_you_mean

EIGENVALUE_FEATURES = ("linearity", "planarity", "verticality", "curvature")
COMPUTED_FEATURES = (
    "height",
    "height_above_ground",
    "return_ratio",
    "relative_intensity",
    "vertical",
    "density",
    *EIGENVALUE_FEATURES,
)
FROM_COORDINATES = tuple(
    name
    for name in COMPUTED_FEATURES
    if name not in ("return_ratio", "relative_intensity")
)
# Dimensions of the LAS point formats 0 to 10 under the names of laspy.
LAS_DIMENSIONS = (
    "X",
    "Y",
    "Z",
    "intensity",
    "return_number",
    "number_of_returns",
    "scan_direction_flag",
    "edge_of_flight_line",
    "classification",
    "synthetic",
    "key_point",
    "withheld",
    "overlap",
    "scanner_channel",
    "scan_angle_rank",
    "scan_angle",
    "user_data",
    "point_source_id",
    "gps_time",
    "red",
    "green",
    "blue",
    "nir",
    "wavepacket_index",
    "wavepacket_offset",
    "wavepacket_size",
    "return_point_wave_location",
    "x_t",
    "y_t",
    "z_t",
)

# Coordinates as integers in steps of the file's scale, from the file's offset.
STORED_COORDINATES = ("X", "Y", "Z")

Flag = Literal["withheld", "overlap", "synthetic", "key_point"]


class ClassSpec(Section):
    """One class: its LAS codes in the input and its code in the output."""

    short_form: ClassVar[str] = "codes"

    codes: Annotated[list[Code], BeforeValidator(as_list)] = Field(min_length=1)
    """LAS classification codes of this class."""
    output_code: Code | None = None
    """LAS code written for this class. Required if `codes` lists several."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._output_code_violations()]

    def _output_code_violations(self) -> Iterator[Violation]:
        if self.output_code is None and len(self.codes) > 1:
            yield Violation(
                "a class of several codes needs `output_code`, the code written for "
                f"it. Received: codes {self.codes} only",
                (("codes",),),
            )

    @property
    def code(self) -> int:
        """The LAS code written for this class."""
        return self.codes[0] if self.output_code is None else self.output_code


class CloudsSpec(Section):
    """LAS and LAZ files, or groups of files with class codes of their own.

    Files are paths, globs or folders, relative to the spec.
    """

    train: list[str | CloudGroupSpec] = Field(default=[])
    """Labeled clouds for training."""
    validation: list[str | CloudGroupSpec] = Field(default=[])
    """Labeled clouds that select the best epoch."""
    predict: list[str | CloudGroupSpec] = Field(default=[])
    """Clouds that `run` predicts; labeled ones are also evaluated."""
    unit: Literal["m", "ft", "us-ft", "cm", "mm"] | None = None
    """Unit of x, y and z of all clouds, in place of that of their reference system.
    Required where a scan at close range has none. By default the reference system
    decides; a cloud without one is in meters."""

    def patterns(self, name: str) -> list[str]:
        """The paths, globs and folders of a list of clouds, also those of its groups.

        Args:
            name: ``train``, ``validation`` or ``predict``.
        """
        entries: list[str | CloudGroupSpec] = getattr(self, name)
        return [
            pattern
            for entry in entries
            for pattern in ([entry] if isinstance(entry, str) else entry.files)
        ]


class ExcludedPointsSpec(Section):
    """Points that the network does not see, in no cell, feature, loss or score.

    They are written like all points, with the class of the nearest cell.
    """

    codes: Annotated[list[Code], BeforeValidator(as_list)] = Field(default=[7, 18])
    """LAS codes of excluded points; by default low and high noise. Points of a code
    that belongs to a class are never excluded, whatever their flags."""
    flags: list[Flag] = Field(default=["withheld"])
    """LAS flags of excluded points."""


class FeatureSpec(Section):
    """One input feature of the network: a LAS dimension or a computed feature."""

    short_form: ClassVar[str] = "name"

    name: str = Field(min_length=1)
    """A LAS dimension, an extra dimension, or one of the computed features:
    height, height_above_ground, return_ratio, relative_intensity, vertical,
    density, linearity, planarity, verticality, curvature."""
    radius: PositiveFloat | None = None
    """Neighborhood radius of a computed feature, in meters."""
    radii: list[PositiveFloat] | None = Field(default=None, min_length=1)
    """Several neighborhood radii in meters: one feature for each."""
    nan: Literal["error", "missing"] = "error"
    """Meaning of NaN in a dimension: an error, or a missing value. Values that the
    file declares as no-data are always missing. A grid cell takes the mean of the
    values present; a cell without any takes the mean of the training clouds."""

    def violations(self) -> list[Iterator[Violation]]:
        return [
            self._name_violations(),
            self._radius_violations(),
            self._nan_violations(),
        ]

    def _nan_violations(self) -> Iterator[Violation]:
        if self.nan == "missing" and self.name in FROM_COORDINATES:
            yield Violation(
                f"`{self.name}` is computed from the coordinates and is never NaN; "
                "remove the key",
                (("nan",),),
            )

    def _name_violations(self) -> Iterator[Violation]:
        if self.name in STORED_COORDINATES:
            yield Violation(_stored_coordinate(self.name), (("name",),))
        try:
            float(self.name)
        except ValueError:
            return
        yield Violation(
            "must be the name of a dimension or of a computed feature. "
            f"Received: {self.name}",
            (("name",),),
        )

    def _radius_violations(self) -> Iterator[Violation]:
        if self.radius is not None and self.radii is not None:
            yield Violation("give `radius` or `radii`, not both", (("radii",),))
        required = (*EIGENVALUE_FEATURES, "density")
        optional = ("height", "height_above_ground")
        given = self.radius is not None or self.radii is not None
        if given and self.name not in required + optional:
            yield Violation(
                f"`{self.name}` has no radius, only "
                f"{', '.join(required + optional)} have one"
                f"{did_you_mean(self.name, required + optional)}",
                (("radius",), ("radii",)),
            )
        if not given and self.name in required:
            yield Violation(
                f"`{self.name}` needs a radius in meters: "
                f"{{name: {self.name}, radius: 1.5}}",
                (("name",),),
            )


def _stored_coordinate(name: str) -> str:
    """Why a stored coordinate is no feature, and what to use."""
    remedy = (
        "use `height_above_ground`, `height` or `vertical` (height within the field)"
        if name == "Z"
        else "remove it: the neighbors' relative coordinates are always inputs"
    )
    return (
        f"`{name}` is the integer that the file stores, which changes with its scale "
        f"and offset; {remedy}"
    )


def feature_columns(specs: Sequence[FeatureSpec]) -> list[str]:
    """Names of the network's inputs: one per feature and radius."""
    columns = []
    for spec in specs:
        radii = [spec.radius] if spec.radii is None else spec.radii
        columns += [
            spec.name if radius is None else f"{spec.name}_{radius:g}"
            for radius in radii
        ]
    return columns


class FieldsSpec(Section):
    """Receptive fields: the subsets of a cloud that the network processes at once."""

    shape: Literal["cylinder", "sphere", "box", "nearest"] = "cylinder"
    """Shape of a field: vertical cylinder of unlimited height, sphere, box, or the
    nearest points of the center."""
    radius: PositiveFloat | None = None
    """Radius of a cylinder or sphere in meters; largest distance from the center for
    `nearest`."""
    size: list[PositiveFloat] | None = Field(default=None, min_length=2, max_length=3)
    """Edge lengths of a box in meters: two (unlimited height) or three."""
    grid_size: PositiveFloat
    """Edge length in meters of the grid cells that a cloud is subsampled to."""
    overlap: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Overlap of adjacent fields, as a fraction of the radius (or half edge)."""
    sampling: Literal["grid", "farthest"] = "grid"
    """Subsampling of a field to the points of each stage: nested grid cells of the
    whole cloud, or farthest-point sampling inside each field."""
    interlevel_neighbors: Literal["parents", "nearest"] = "parents"
    """Neighbors for down- and upsampling: the parents in the grid, or the nearest
    points. `sampling: farthest` has no parents and always uses the nearest points."""
    training_centers: Literal["balanced", "random", "grid", "farthest"] = "balanced"
    """Centers of training fields; `balanced` draws each class equally often."""
    prediction_centers: Literal["grid", "farthest"] = "grid"
    """Centers of fields in validation and prediction."""

    def violations(self) -> list[Iterator[Violation]]:
        return [self._extent_violations(), self._reach_violations()]

    def _extent_violations(self) -> Iterator[Violation]:
        if self.shape == "box":
            if self.size is None:
                yield Violation(
                    "a box needs `size: [x, y]` or `size: [x, y, z]` in meters",
                    (("shape",),),
                )
            if self.radius is not None:
                yield Violation("a box has a `size`, not a `radius`", (("radius",),))
            return
        if self.size is not None:
            yield Violation(
                f"a {self.shape} has a `radius`, not a `size`", (("size",),)
            )
        if self.radius is None and self.shape != "nearest":
            yield Violation(f"a {self.shape} needs a `radius` in meters", (("shape",),))

    def _reach_violations(self) -> Iterator[Violation]:
        reach = self.reach
        if reach is not None and reach < self.grid_size:
            yield Violation(
                "the radius of a field, or half its shortest horizontal edge, must be "
                f"at least one cell of `grid_size` = {self.grid_size:g} m. "
                f"Received: {reach:g} m",
                (("radius",), ("size",), ("grid_size",)),
            )

    @model_validator(mode="after")
    def _farthest_points_have_no_parents(self) -> Self:
        if self.sampling == "farthest" and self.interlevel_neighbors == "parents":
            # A frozen model has no other way to correct its own default.
            object.__setattr__(self, "interlevel_neighbors", "nearest")
        return self

    @property
    def reach(self) -> float | None:
        """Radius, or half of the shortest horizontal edge, in meters."""
        return min(self.size[:2]) / 2 if self.size else self.radius
