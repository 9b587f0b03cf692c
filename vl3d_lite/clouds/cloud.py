"""A point cloud in memory."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(eq=False)
class PointCloud:
    """Points with their attributes and class labels.

    Coordinates are kept as an offset from `origin`, so that they stay exact
    whatever the size of the world coordinates: two files that differ only in
    the header's offset have bit-identical `local`.

    Args:
        local: ``(n, 3)`` float64, meters from `origin`, none negative as read
            from a file.
        origin: ``(3,)`` float64, meters.
        attributes: Name of a LAS or extra dimension to its ``(n,)`` values.
        labels: ``(n,)`` int32 class index, -1 where ignored or unlabelled.
        name: What messages call the cloud, usually the file name.
    """

    local: np.ndarray
    origin: np.ndarray
    attributes: dict[str, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.labels is None:
            self.labels = np.full(len(self.local), -1, np.int32)
        if self.local.ndim != 2 or self.local.shape[1] != 3:
            raise ValueError(
                f"`local` must have the shape (n, 3). Received: {self.local.shape}"
            )
        for what, values in {"labels": self.labels, **self.attributes}.items():
            if len(values) != len(self.local):
                raise ValueError(
                    f"`{what}` must have one value for each of the "
                    f"{len(self.local)} points. Received: {len(values)}"
                )

    @property
    def xyz(self) -> np.ndarray:
        """World coordinates, ``(n, 3)`` float64, meters; a new array each time."""
        return self.local + self.origin

    def __len__(self) -> int:
        return len(self.local)

    def select(self, index: np.ndarray | slice) -> "PointCloud":
        """The points that `index` (integers, booleans or a slice) picks, in order."""
        return PointCloud(
            local=self.local[index],
            origin=self.origin,
            attributes={name: a[index] for name, a in self.attributes.items()},
            labels=self.labels[index],
            name=self.name,
        )
