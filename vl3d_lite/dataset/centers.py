"""Where receptive fields are centered: lattices, far points, labelled points."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from vl3d_lite.dataset.extractor import FieldExtractor
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.geometry.regions import Shape
from vl3d_lite.geometry.subsampling import farthest_points, run_starts
from vl3d_lite.spec.schema.clouds import FieldsSpec
from vl3d_lite.spec.schema.spec import Spec

PROBES = 64  # fields drawn to see how far they reach where a cloud is dense
PROBED_SHARE = 0.25  # of the probes may reach less far than lattices assume
WINDOW = 65_536  # uncovered points looked at together


def typical_shape(extractor: FieldExtractor, rng: np.random.Generator) -> Shape:
    """The shape of most fields: smaller than the spec's where points abound.

    A field holds no more points than the first stage. Where its shape holds
    more, the field ends before the shape does.
    """
    points = extractor.stages[0].points
    xyz = extractor.prepared.xyz
    reaches = []
    for row in rng.integers(len(xyz), size=min(PROBES, len(xyz))):
        measures = extractor.inside(xyz[row])[1]
        if extractor.gathers_nearest:
            reaches.append(measures.max())
        elif len(measures) > points and not extractor.farthest:
            reaches.append(np.partition(measures, points - 1)[points - 1])
        else:
            reaches.append(extractor.shape.limit)
    usual = np.quantile(reaches, PROBED_SHARE)
    return extractor.shape.scaled(max(usual, _least_measure(extractor)))


def _least_measure(extractor: FieldExtractor) -> float:
    """The measure of half a cell, so that a lattice never shrinks to nothing."""
    half = extractor.grid_size / 2
    return (
        half**2 if extractor.shape.round else half / float(extractor.shape.halves.min())
    )


def lattice_centers(
    xyz: np.ndarray, shape: Shape, overlap: float, shift: np.ndarray
) -> np.ndarray:
    """Centers on a lattice: those nearest to any point.

    Neighbors on the lattice are ``2 - overlap`` radii (or half edges) apart.
    Disks lie on a hexagonal lattice, balls on a body-centered cubic one,
    boxes edge to edge. A center then moves to the middle of the points it is
    nearest to, which brings those at the border of the cloud inward.

    Args:
        xyz: ``(N, 3)``, at least one point.
        shape: Shape of a field.
        overlap: In [0, 1).
        shift: ``(3,)`` in [0, 1), of the lattice in its periods.

    Returns:
        ``(F, 3)`` float64.
    """
    axes = shape.axes
    spacing = shape.halves * (2 - overlap)
    if not shape.round:
        periods, cosets = spacing, (0.0,)
    elif axes == 2:
        periods, cosets = spacing * [1, np.sqrt(3)], (0.0, 0.5)
    else:
        periods, cosets = spacing * 2 / np.sqrt(3), (0.0, 0.5)
    scaled = (xyz[:, :axes] - xyz[:, :axes].min(axis=0)) / periods + shift[:axes]
    sites = [np.round(scaled - coset) + coset for coset in cosets]
    best = sites[0]
    if len(sites) > 1:
        nearer = np.square((sites[1] - scaled) * periods).sum(axis=1) < np.square(
            (sites[0] - scaled) * periods
        ).sum(axis=1)
        best[nearer] = sites[1][nearer]
    # Sites are multiples of one half: twice them are exact integers.
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
    """Points of the coarsest level with cells of at most `edge`, or the finest."""
    levels = prepared.hierarchy.levels
    edges = [grid_size * 2**number for number in range(len(levels))]
    return levels[max(n for n, own in enumerate(edges) if n == 0 or own <= edge)].xyz


def farthest_centers(
    prepared: PreparedCloud, shape: Shape, fields: FieldsSpec, rng: np.random.Generator
) -> np.ndarray:
    """Centers on points, each the farthest from those before, until all is near.

    No point of the cloud is farther from a center than a lattice of the same
    overlap would leave it. Chosen among the points of a level much finer than
    the shape.

    Args:
        prepared: The cloud.
        shape: Shape of a field.
        fields: Overlap and grid size.
        rng: Draws the first center.

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
    way: Literal["grid", "farthest"],
    prepared: PreparedCloud,
    fields: FieldsSpec,
    shape: Shape,
    rng: np.random.Generator,
) -> np.ndarray:
    """Centers of one pass over a cloud, ``(F, 3)``."""
    if way == "farthest":
        return farthest_centers(prepared, shape, fields, rng)
    return lattice_centers(prepared.xyz, shape, fields.overlap, rng.random(3))


class TrainingCenters:
    """Draws the centers of training fields from several clouds.

    Args:
        extractors: One a cloud; at least one cloud has a labelled point.
        spec: Way of drawing and seed.
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

    def epoch(self, number: int, count: int) -> Callable:
        """Prepare the fields of an epoch.

        Args:
            number: Of the epoch.
            count: Fields of the epoch.

        Returns:
            A function of the field's number and of a generator for that field
            alone; it gives the number of the cloud and the ``(3,)`` center.
        """
        if self.spec.fields.training_centers in ("balanced", "random"):
            return lambda _, rng: self._near_a_label(rng)
        fields = self._spread(number, count)
        return lambda field, _: fields[field]

    def _near_a_label(self, rng: np.random.Generator) -> tuple[int, np.ndarray]:
        """A center at most half a reach from a labelled point.

        Not at the point itself, lest the network learn that rare classes
        stand in the middle.
        """
        row = rng.choice(self.groups[rng.integers(len(self.groups))])
        cloud = int(np.searchsorted(self.first_rows, row, side="right")) - 1
        center = self.clouds[cloud].xyz[row - self.first_rows[cloud]].copy()
        distance = self.shapes[cloud].halves.min() / 2 * np.sqrt(rng.random())
        angle = rng.uniform(0, 2 * np.pi)
        center[:2] += distance * np.cos(angle), distance * np.sin(angle)
        return cloud, center

    def _spread(self, number: int, count: int) -> list[tuple[int, np.ndarray]]:
        """Shuffled centers that cover all clouds, over and over."""
        rng = np.random.default_rng([self.spec.seed, number])
        fields = self.spec.fields
        result = []
        while len(result) < count:
            turn = []
            for cloud, (prepared, shape) in enumerate(
                zip(self.clouds, self.shapes, strict=True)
            ):
                way = fields.training_centers
                centers = spread_centers(way, prepared, fields, shape, rng)
                turn.extend((cloud, center) for center in centers)
            result.extend(turn[n] for n in rng.permutation(len(turn)))
        return result[:count]
