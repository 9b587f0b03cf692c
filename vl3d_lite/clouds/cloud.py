"""A point cloud in memory."""

from dataclasses import dataclass, field, replace

import numpy as np

from vl3d_lite.clouds.units import Frame


@dataclass(eq=False)
class PointCloud:
    """Points with their attributes and class labels.

    Coordinates are kept as an offset from `origin`, so that they stay exact
    however large the world coordinates are: two files that differ only in the
    offset of the header have bit-identical `local`.

    Args:
        local: ``(n, 3)`` float64, meters from `origin`. As read from a file no
            coordinate is negative but of excluded points.
        origin: ``(3,)`` float64, meters.
        attributes: Name of a LAS or extra dimension to its ``(n,)`` values.
        labels: ``(n,)`` int32 class index, -1 where ignored or unlabeled; all -1 by
            default.
        excluded: ``(n,)`` bool, points that are kept out of cells and features; None
            where there is none.
        missing: Names of attributes whose NaN stand for missing values.
        name: Name of the cloud in messages, usually the file name.
        meters_per_unit: ``(3,)`` float64, meters in one unit of the file; all 1 by
            default.
        crs: Name of the file's reference system; empty where it has none.

    Raises:
        ValueError: Shapes disagree.
    """

    local: np.ndarray
    origin: np.ndarray
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray = None  # type: ignore[assignment]  # set in __post_init__
    name: str = ""
    excluded: np.ndarray | None = None
    missing: frozenset[str] = frozenset()
    meters_per_unit: np.ndarray = field(default_factory=lambda: np.ones(3))
    crs: str = ""

    def __post_init__(self) -> None:
        if self.labels is None:
            self.labels = np.full(len(self.local), -1, np.int32)
        if self.local.ndim != 2 or self.local.shape[1] != 3:
            raise ValueError(
                f"`local` must have the shape (n, 3). Received: {self.local.shape}"
            )
        masks = {} if self.excluded is None else {"excluded": self.excluded}
        columns = {"labels": self.labels, **masks, **self.attributes}
        for what, values in columns.items():
            if len(values) != len(self.local):
                raise ValueError(
                    f"`{what}` must have one value for each of the "
                    f"{len(self.local)} points. Received: {len(values)}"
                )

    @property
    def xyz(self) -> np.ndarray:
        """World coordinates, ``(n, 3)`` float64, meters; a new array each time."""
        return self.local + self.origin

    @property
    def frame(self) -> Frame:
        """The place of the cloud in its file, and the file's own unit."""
        return Frame(self.origin, self.meters_per_unit, self.crs)

    def __len__(self) -> int:
        return len(self.local)

    def without_excluded(self) -> "PointCloud":
        """The cloud without its excluded points."""
        if self.excluded is None:
            return self
        return replace(self.select(~self.excluded), excluded=None)

    def select(self, index: np.ndarray | slice) -> "PointCloud":
        """Select points by integers, booleans or a slice; returns a new cloud."""
        return PointCloud(
            local=self.local[index],
            origin=self.origin,
            attributes={name: a[index] for name, a in self.attributes.items()},
            labels=self.labels[index],
            name=self.name,
            excluded=None if self.excluded is None else self.excluded[index],
            missing=self.missing,
            meters_per_unit=self.meters_per_unit,
            crs=self.crs,
        )
