"""Centers of receptive fields: on lattices, farthest points or labeled points."""

from collections.abc import Callable
from typing import Literal, cast

import numpy as np

from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.geometry import Shape, farthest_points, run_starts
from vl3d_lite.spec import FieldsSpec, Spec

SAMPLES = 64  # fields that are measured to find the typical shape
SMALLER_SHARE = 0.25  # of the fields may be smaller than the typical shape

# The number of a field and its own generator, to the number of the cloud and (3,).
DrawCenter = Callable[[int, np.random.Generator], tuple[int, np.ndarray]]


def typical_shape(extractor: FieldExtractor, rng: np.random.Generator) -> Shape:
    """The shape that fields typically fill.

    A field holds at most as many points as the first stage. In dense clouds the
    shape of the spec holds more, and fields are smaller than it.

    Args:
        extractor: The extractor of the cloud.
        rng: Random generator of the fields that are measured.
    """
    points = extractor.stages[0].points
    xyz = extractor.prepared.xyz
    measures_of_fields = []
    for row in rng.integers(len(xyz), size=min(SAMPLES, len(xyz))):
        measures = extractor.inside(xyz[row])[1]
        if extractor.gathers_nearest:
            measures_of_fields.append(measures.max())
        elif len(measures) > points and not extractor.farthest:
            measures_of_fields.append(np.partition(measures, points - 1)[points - 1])
        else:
            measures_of_fields.append(extractor.shape.limit)
    typical = float(np.quantile(measures_of_fields, SMALLER_SHARE))
    return extractor.shape.scaled(max(typical, _least_measure(extractor)))


def _least_measure(extractor: FieldExtractor) -> float:
    """The measure of half a cell, so that the spacing of a lattice stays positive."""
    half = extractor.grid_size / 2
    return (
        half**2 if extractor.shape.round else half / float(extractor.shape.halves.min())
    )


def lattice_centers(
    xyz: np.ndarray, shape: Shape, overlap: float, shift: np.ndarray
) -> np.ndarray:
    """Centers on a lattice, without those that are nearest to no point.

    Neighbors on the lattice are ``2 - overlap`` radii (or half edges) apart.
    Disks lie on a hexagonal lattice, balls on a body-centered cubic one,
    boxes edge to edge. A center then moves to the middle of the bounding box of
    the points nearest to it, so that fields at the border of the cloud move inward.

    Args:
        xyz: ``(N, 3)``, at least one point.
        shape: Shape of a field.
        overlap: In [0, 1).
        shift: ``(3,)`` in [0, 1), offset of the lattice in periods.

    Returns:
        ``(F, 3)`` float64.
    """
    axes = shape.axes
    spacing = shape.halves * (2 - overlap)
    if not shape.round:
        periods = spacing
    elif axes == 2:
        periods = spacing * [1, np.sqrt(3)]
    else:
        periods = spacing * 2 / np.sqrt(3)
    # Both lattices are rectangular ones plus a copy that is half a period away.
    cosets = (0.0, 0.5) if shape.round else (0.0,)
    scaled = (xyz[:, :axes] - xyz[:, :axes].min(axis=0)) / periods + shift[:axes]
    sites = [np.round(scaled - coset) + coset for coset in cosets]
    best = sites[0]
    if len(sites) > 1:
        nearer = np.square((sites[1] - scaled) * periods).sum(axis=1) < np.square(
            (sites[0] - scaled) * periods
        ).sum(axis=1)
        best[nearer] = sites[1][nearer]
    # Sites are multiples of one half: their doubles are exact integers.
    steps = (2 * best).astype(np.int64)
    steps -= steps.min(axis=0)
    numbers = np.ravel_multi_index(tuple(steps.T), tuple(steps.max(axis=0) + 1))
    site = np.unique(numbers, return_inverse=True)[1].ravel()
    order = np.argsort(site, kind="stable")
    starts = run_starts(site[order])
    ordered = xyz[order]
    low, high = (
        ufunc.reduceat(ordered, starts, axis=0) for ufunc in (np.minimum, np.maximum)
    )
    return (low + high) / 2


def _level_finer_than(
    prepared: PreparedCloud, grid_size: float, edge: float
) -> np.ndarray:
    """Points of the coarsest level whose cells are at most `edge`, or the finest."""
    levels = prepared.hierarchy.levels
    edges = [grid_size * 2**number for number in range(len(levels))]
    return levels[max(n for n, own in enumerate(edges) if n == 0 or own <= edge)].xyz


def farthest_centers(
    prepared: PreparedCloud, shape: Shape, fields: FieldsSpec, rng: np.random.Generator
) -> np.ndarray:
    """Centers on points, each the farthest from the centers before it.

    The last point is chosen when every point is as near to a center as on a lattice
    of the same overlap. Candidates are the points of a level that is much finer than
    the shape, since the cost grows with their number.

    Args:
        prepared: The cloud.
        shape: Shape of a field.
        fields: The section of the spec with the overlap and the grid size.
        rng: Random generator of the first center.

    Returns:
        ``(F, 3)`` float64.
    """
    reach = shape.halves.min()
    level = _level_finer_than(prepared, fields.grid_size, reach / 8)
    level_xyz = level[:, : shape.axes]
    rows = farthest_points(
        level_xyz,
        len(level),
        first=int(rng.integers(len(level))),
        spacing=reach * (2 - fields.overlap) / np.sqrt(3),
    )
    return level[rows]


def spread_centers(
    method: Literal["grid", "farthest"],
    prepared: PreparedCloud,
    fields: FieldsSpec,
    shape: Shape,
    rng: np.random.Generator,
) -> np.ndarray:
    """Centers of one pass over a cloud, ``(F, 3)`` float64."""
    if method == "farthest":
        return farthest_centers(prepared, shape, fields, rng)
    return lattice_centers(prepared.xyz, shape, fields.overlap, rng.random(3))


class TrainingCenters:
    """Draws the centers of training fields from several clouds.

    Args:
        extractors: One per cloud; at least one cloud has a labeled point.
        spec: The spec with ``fields.training_centers`` and the seed.
    """

    def __init__(self, extractors: list[FieldExtractor], spec: Spec):
        self.clouds = [extractor.prepared for extractor in extractors]
        self.spec = spec
        self.first_rows = np.cumsum([0, *(len(c.labels) for c in self.clouds)])
        rng = np.random.default_rng(spec.seed)
        self.shapes = [typical_shape(extractor, rng) for extractor in extractors]
        labels = np.concatenate([cloud.labels for cloud in self.clouds])
        if spec.fields.training_centers == "balanced":
            present = np.unique(labels[labels >= 0])
            self.groups = [np.flatnonzero(labels == label) for label in present]
        else:
            self.groups = [np.flatnonzero(labels >= 0)]

    def epoch(self, number: int, count: int) -> DrawCenter:
        """Prepare the centers of an epoch.

        Args:
            number: Number of the epoch.
            count: Fields of the epoch.

        Returns:
            A function of the number of a field and of the random generator of that
            field; it returns the number of the cloud and the ``(3,)`` center.
        """
        if self.spec.fields.training_centers in ("balanced", "random"):
            return lambda _, rng: self._near_a_label(rng)
        fields = self._spread(number, count)
        return lambda field, _: fields[field]

    def _near_a_label(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """A center at most half a radius away from a labeled point.

        At the point itself the network would learn that rare classes are in the
        middle of a field.
        """
        row = rng.choice(self.groups[rng.integers(len(self.groups))])
        cloud = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        center = self.clouds[cloud].xyz[row - self.first_rows[cloud]].copy()
        # The root makes the density uniform over the disk.
        distance = self.shapes[cloud].halves.min() / 2 * np.sqrt(rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        center[:2] += distance * np.cos(angle), distance * np.sin(angle)
        return cloud, center

    def _spread(self, number: int, count: int) -> list[tuple[int, np.ndarray]]:
        """Shuffled centers of as many passes over all clouds as `count` takes."""
        rng = np.random.default_rng([self.spec.seed, number])
        fields = self.spec.fields
        method = cast(Literal["grid", "farthest"], fields.training_centers)
        result: list[tuple[int, np.ndarray]] = []
        while len(result) < count:
            one_pass: list[tuple[int, np.ndarray]] = []
            for cloud, (prepared, shape) in enumerate(
                zip(self.clouds, self.shapes, strict=True)
            ):
                centers = spread_centers(method, prepared, fields, shape, rng)
                one_pass.extend((cloud, center) for center in centers)
            result.extend(one_pass[n] for n in rng.permutation(len(one_pass)))
        return result[:count]
