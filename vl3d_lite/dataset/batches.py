"""Batches of receptive fields, padded to static shapes and made in threads."""

from collections.abc import Iterator

import numpy as np

from vl3d_lite.dataset.augmentation import change_features, drop_neighbors, move_points
from vl3d_lite.dataset.centers import DrawCenter, TrainingCenters
from vl3d_lite.dataset.extractor import (
    FieldExtractor,
    ReceptiveField,
    interlevel_widths,
)
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.dataset.sweep import cover
from vl3d_lite.errors import DataError
from vl3d_lite.spec import Spec
from vl3d_lite.system import prefetch

Inputs = dict[str, np.ndarray]


def batch_spec(
    spec: Spec, n_features: int
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Name, shape without the batch axis, and dtype of each input of the network.

    ``R_l`` points and ``K_l`` neighbors of stage ``l``. Indices are rows of the
    field's stage, -1 where missing. Padding points hold zeros and -1.

    ========================  ===================  ==================================
    ``features``              ``(R_0, C)``         float32, scaled
    ``xyz_<l>``               ``(R_l, 3)``         float32, meters from the center
    ``neighbors_<l>``         ``(R_l, K_l)``       int32 rows of stage l, self first
    ``down_<l>``, not last    ``(R_{l+1}, D_l)``   int32 rows of stage l
    ``up_<l>``, not last      ``(R_l, U)``         int32 rows of stage l + 1
    ``source_weights``        ``(R_0, 1)``         float32; where the spec has them
    ========================  ===================  ==================================
    """
    stages = spec.model.stages
    real, whole = np.dtype(np.float32), np.dtype(np.int32)
    down, up = interlevel_widths(spec)
    result: dict[str, tuple[tuple[int, ...], np.dtype]]
    result = {"features": ((stages[0].points, n_features), real)}
    if spec.model.source_weights is not None:
        result["source_weights"] = ((stages[0].points, 1), real)
    for number, stage in enumerate(stages):
        result[f"xyz_{number}"] = ((stage.points, 3), real)
        result[f"neighbors_{number}"] = ((stage.points, stage.neighbors), whole)
        if number + 1 < len(stages):
            coarse = stages[number + 1].points
            result[f"down_{number}"] = ((coarse, down[number]), whole)
            result[f"up_{number}"] = ((stage.points, up), whole)
    return result


class FieldSource:
    """Fields of one cloud as rows of a batch.

    Args:
        prepared: The cloud.
        spec: The spec with the fields, stages and augmentation.
        scaling: The scaling of the features.

    Raises:
        DataError: The features of the cloud are not those of the scaling.
    """

    def __init__(self, prepared: PreparedCloud, spec: Spec, scaling: FeatureScaling):
        scaling.require(prepared)
        self.prepared, self.spec = prepared, spec
        self.extractor = FieldExtractor(prepared, spec)
        self.scaling = scaling
        self.vertical = None
        if "vertical" in scaling.names:
            column = scaling.names.index("vertical")
            self.vertical = column, scaling.mean[column], scaling.std[column]

    def write(
        self,
        batch: Inputs,
        slot: int,
        center: np.ndarray,
        rows: np.ndarray | None = None,
        rng: np.random.Generator | None = None,
    ) -> np.ndarray:
        """Extract a field and write it into a batch made by `empty_batch`.

        Args:
            batch: The inputs, changed in place.
            slot: Index on the batch axis.
            center: ``(3,)``, local frame of the cloud, meters.
            rows: ``(R_0,)`` rows of the finest level; selected by default.
            rng: Random generator of the augmentation; no augmentation by default.

        Returns:
            ``(R_0,)`` rows of the finest level that the field holds.
        """
        field = self.extractor.extract(center, rows)
        xyz = field.xyz
        # Scaled field by field: scaled features of all clouds would fill the memory.
        features = self.scaling.apply(self.prepared.features.take(field.indices, 0))
        if rng is not None:
            xyz = self._augment(field, rng)
        if self.vertical is not None:
            column, mean, std = self.vertical
            features[:, column] = (xyz[0][:, 2] - mean) / std
        if rng is not None:
            names = self.prepared.feature_names
            change_features(features, names, self.spec.training.augmentation, rng)
        batch["features"][slot, : len(features)] = features
        weights = self.prepared.source_weights
        if weights is not None:
            batch["source_weights"][slot, : len(features), 0] = weights[field.indices]
        for number in range(len(xyz)):
            count = len(xyz[number])
            batch[f"xyz_{number}"][slot, :count] = xyz[number]
            batch[f"neighbors_{number}"][slot, :count] = field.neighbors[number]
        for number in range(len(xyz) - 1):
            down, up = field.down[number], field.up[number]
            batch[f"down_{number}"][slot, : len(down)] = down
            batch[f"up_{number}"][slot, : len(up)] = up
        return field.indices

    def _augment(
        self, field: ReceptiveField, rng: np.random.Generator
    ) -> list[np.ndarray]:
        augmentation = self.spec.training.augmentation
        xyz = move_points(field, augmentation, self.spec.fields.grid_size, rng)
        if augmentation.point_dropout:
            drop_neighbors(field.neighbors, augmentation.point_dropout, rng)
        return xyz


def empty_batch(spec: Spec, n_features: int, size: int) -> Inputs:
    """A batch of padding: zeros, and -1 for indices."""
    return {
        name: np.full((size, *shape), -1 if dtype.kind == "i" else 0, dtype)
        for name, (shape, dtype) in batch_spec(spec, n_features).items()
    }


class TrainingBatches:
    """Batches for training. They depend on the seed, not on the number of threads.

    Args:
        clouds: Prepared training clouds.
        spec: The spec of the run.
        scaling: The scaling of the features.
        threads: Threads that prepare batches during the training step.

    Attributes:
        n_features: Channels of ``features``.
        steps_per_epoch: Batches of an epoch.
        wait_seconds: Time that the consumer waited for batches so far.

    Raises:
        DataError: No cloud has a labeled point, or features differ.
    """

    def __init__(
        self,
        clouds: list[PreparedCloud],
        spec: Spec,
        scaling: FeatureScaling,
        *,
        threads: int = 1,
    ):
        if not any((cloud.labels >= 0).any() for cloud in clouds):
            raise DataError(
                "no training cloud has a point of a class in `classes`. "
                "Check the LAS codes that the classes name"
            )
        self.spec, self.threads = spec, threads
        self.sources = [FieldSource(cloud, spec, scaling) for cloud in clouds]
        self.centers = TrainingCenters([s.extractor for s in self.sources], spec)
        self.n_features = len(scaling.names)
        self.wait_seconds = 0.0
        size = spec.points_per_batch * spec.training.augmentation.grids
        total = sum(len(cloud.labels) for cloud in clouds)
        self.steps_per_epoch = spec.training.steps_per_epoch or -(-total // size)

    def epoch(
        self, number: int, start_step: int = 0
    ) -> Iterator[tuple[Inputs, np.ndarray]]:
        """Make the batches of an epoch.

        Args:
            number: Number of the epoch; each has its own fields and augmentation.
            start_step: Batches to skip at the start.

        Returns:
            A generator, which may be closed at any time, of inputs as in
            `batch_spec` and ``(B, R_0)`` int32 labels, -1 for padding and
            ignored points.
        """
        count = self.steps_per_epoch * self.spec.training.batch_size
        draw = self.centers.epoch(number, count)
        return prefetch(
            lambda step: self._batch(draw, number, step),
            range(start_step, self.steps_per_epoch),
            self.threads,
            self._waited,
        )

    def _waited(self, seconds: float) -> None:
        self.wait_seconds += seconds

    def _batch(
        self, draw: DrawCenter, epoch: int, step: int
    ) -> tuple[Inputs, np.ndarray]:
        size = self.spec.training.batch_size
        batch = empty_batch(self.spec, self.n_features, size)
        labels = np.full((size, self.spec.model.stages[0].points), -1, np.int32)
        for slot in range(size):
            # A generator per field: the order of the threads changes nothing.
            rng = np.random.default_rng([self.spec.seed, epoch, step, slot])
            cloud, center = draw(step * size + slot, rng)
            source = self.sources[cloud]
            rows = source.write(batch, slot, center, rng=rng)
            labels[slot, : len(rows)] = source.prepared.labels[rows]
        return batch, labels


class SweepBatches:
    """Batches that cover a cloud.

    Args:
        prepared: The cloud.
        spec: The spec of the run.
        scaling: The scaling of the features.
        votes: Least number of fields that hold each point; from the spec by default.
        batch_size: Fields of a batch; from the spec by default.
        threads: Threads that prepare batches ahead.

    Attributes:
        sweep: The fields.
        wait_seconds: Time that the consumer waited for batches so far.
    """

    def __init__(
        self,
        prepared: PreparedCloud,
        spec: Spec,
        scaling: FeatureScaling,
        *,
        votes: int | None = None,
        batch_size: int | None = None,
        threads: int = 1,
    ):
        self.spec, self.threads = spec, threads
        self.source = FieldSource(prepared, spec, scaling)
        self.n_features = len(scaling.names)
        self.batch_size = (
            batch_size or spec.prediction.batch_size or spec.training.batch_size
        )
        self.sweep = cover(
            prepared,
            spec,
            votes=votes or spec.prediction.votes,
            seed=spec.seed + prepared.grid,
            extractor=self.source.extractor,
        )
        self.wait_seconds = 0.0

    def __len__(self) -> int:
        return -(-len(self.sweep) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Inputs, np.ndarray]]:
        """Yield inputs and ``(B, R_0)`` int32 rows of the finest level, -1 on padding.

        The last batch is padded with empty fields: its shape is static as well.
        """
        return prefetch(self._batch, range(len(self)), self.threads, self._waited)

    def _waited(self, seconds: float) -> None:
        self.wait_seconds += seconds

    def _batch(self, number: int) -> tuple[Inputs, np.ndarray]:
        batch = empty_batch(self.spec, self.n_features, self.batch_size)
        points = self.spec.model.stages[0].points
        indices = np.full((self.batch_size, points), -1, np.int32)
        first = number * self.batch_size
        for slot in range(min(self.batch_size, len(self.sweep) - first)):
            rows = self.sweep.rows[first + slot]
            self.source.write(batch, slot, self.sweep.centers[first + slot], rows)
            indices[slot, : len(rows)] = rows
        return batch, indices
