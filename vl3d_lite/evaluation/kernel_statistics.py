"""Statistics of a trained network on a cloud: modulations, neighbors, attention."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import keras
import numpy as np
from keras import ops

from vl3d_lite.dataset import (
    FeatureScaling,
    FieldSource,
    Inputs,
    PreparedCloud,
    cover,
    empty_batch,
)
from vl3d_lite.model.layers import (
    EnvelopeGatedAttention,
    FieldAttentionLayer,
    GroupedVectorAttentionLayer,
    KPConvXLayer,
    kernel_geometry,
)
from vl3d_lite.spec import GROUP_ORDERS, Spec

FIELDS = 32  # per cloud, evenly spread; more change no statistic visibly


def measure_kernels(
    model: keras.Model, cloud: PreparedCloud, spec: Spec, scaling: FeatureScaling
) -> dict:
    """Measure the content of ``statistics.json`` of a kernels folder.

    The format is that of `kernels.page.read_statistics`, plus the name of the
    cloud, the number of fields, and the origin of the classes. The class of a
    center is its label, or the predicted class where the cloud has no labels; at
    coarser levels it is the most frequent class of its descendants.

    Modulations are those of the first block of a layer, over real points and
    groups of channels. Neighbor shares count present neighbors. The entropy of the
    attention of a real point is divided by the logarithm of the number of its
    neighbors (`gqa`: of the points of the field), over points with at least two.

    Args:
        model: The network.
        cloud: A sample of at least one and at most `FIELDS` of its fields is used.
        spec: Spec of the run.
        scaling: Scaling of the features.
    """
    accumulators = [
        ACCUMULATORS[type(layer)](layer, len(spec.classes))
        for layer in model.layers
        if type(layer) in ACCUMULATORS
    ]
    inner = keras.Model(
        model.inputs,
        [model.outputs[0], *(entry.layer.input for entry in accumulators)],
    )
    labeled = bool((cloud.labels >= 0).any())
    copies = GROUP_ORDERS[spec.model.symmetry]
    fields = 0
    for inputs, labels in _sample(cloud, spec, scaling):
        logits, *tensors = inner(inputs, training=False)
        if not labeled:
            predicted = np.argmax(ops.convert_to_numpy(logits), axis=-1)
            labels = np.where((inputs["neighbors_0"] >= 0).any(axis=-1), predicted, -1)
        classes = _classes_of_levels(inputs, labels, spec)
        fields += int((inputs["neighbors_0"] >= 0).any(axis=(1, 2)).sum())
        for entry, values in zip(accumulators, tensors, strict=True):
            # The rotated copies of a batch are concatenated along the batch axis.
            entry.add(values, np.tile(classes[entry.level], (copies, 1)))
    found: dict[str, dict[str, dict]] = {"layers": {}, "attention": {}}
    for entry in accumulators:
        found[entry.part][entry.layer.name] = entry.result(spec.class_names)
    return {
        "cloud": cloud.name,
        "fields": fields,
        "classes_from": "labels" if labeled else "prediction",
        **found,
    }


class Accumulator(Protocol):
    """Statistics of one layer, accumulated over batches of its inputs.

    Attributes:
        part: The part of ``statistics.json``, ``layers`` or ``attention``.
        layer: The layer.
        level: Level of the layer's centers; 0 is the finest.
    """

    part: str
    layer: Any
    level: int

    def add(self, inputs: list, classes: np.ndarray) -> None:
        """Add a batch of the layer's inputs, ``classes (B, M)`` of its centers."""

    def result(self, class_names: Sequence[str]) -> dict[str, Any]:
        """The entry of the layer in ``statistics.json``."""


class ConvolutionStatistics:
    """Modulations and neighbor shares of one kernel point convolution.

    Args:
        layer: A `KPConvXLayer` of a network.
        n_classes: Number of classes.
    """

    part = "layers"

    def __init__(self, layer: KPConvXLayer, n_classes: int):
        self.layer = layer
        self.level = _level(layer)
        self.counts = np.zeros((n_classes + 1, layer.mq))  # last row: no class
        self.moments = np.zeros((3, layer.mq))

    def add(self, inputs: list, classes: np.ndarray) -> None:
        """Add the counts and modulations of a batch.

        Args:
            inputs: Inputs of the layer's call.
            classes: ``(B, M)`` int, class of each center; -1 where unknown.
        """
        layer, (X, F, N) = self.layer, inputs[:3]
        centers = inputs[3] if layer.strided else X
        Q = ops.convert_to_tensor(layer.Q)
        nearest = kernel_geometry(X, N, centers, Q, layer.sigma, layer.influence)[0]
        present = _present(N, X)
        rows = np.broadcast_to(classes[..., None], present.shape)[present]
        np.add.at(self.counts, (rows, ops.convert_to_numpy(nearest)[present]), 1)
        real = present.any(axis=-1)
        modulations = layer._modulations(0, F, ops.convert_to_tensor(real), False)
        if modulations is not None:
            values = ops.convert_to_numpy(ops.cast(modulations, "float32"))[real]
            values = values.reshape(len(values), layer.mq, -1).astype(np.float64)
            ones = np.ones_like(values)
            for row, power in enumerate((ones, values, values**2)):
                self.moments[row] += power.sum(axis=(0, 2))

    def result(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Lists of one number per kernel point."""
        of_class = dict(zip(class_names, self.counts, strict=False))
        found: dict[str, Any] = {
            "neighbor_share": _shares(self.counts.sum(axis=0)),
            "neighbor_share_by_class": {
                name: _shares(counts)
                for name, counts in of_class.items()
                if any(counts)
            },
        }
        count, total, squares = self.moments
        if self.layer.attention:
            mean = total / count
            spread = np.sqrt(np.maximum(squares / count - mean**2, 0))
            found["modulation_mean"] = mean.tolist()
            found["modulation_std"] = spread.tolist()
        return found


class NeighborAttentionEntropy:
    """Entropy of the attention of one layer over neighbors.

    Args:
        layer: A `GroupedVectorAttentionLayer` or `EnvelopeGatedAttention` of a
            network.
    """

    part = "attention"

    def __init__(self, layer: keras.layers.Layer, _n_classes: int):
        self.layer = layer
        self.level = _level(layer)
        self.total, self.count = np.zeros(1), 0  # broadcast to ``(groups,)``

    def add(self, inputs: list, _classes: np.ndarray) -> None:
        """Add the entropies of a batch of the layer's inputs."""
        X, _, N = inputs[:3]
        neighbors = _present(N, X).sum(axis=-1)
        several = neighbors > 1
        alpha = ops.cast(self.layer.attention_weights(inputs), "float32")
        alpha = ops.convert_to_numpy(alpha)[several].astype(np.float64)  # (n, K, G)
        # With an envelope, the weights of a point sum to less than 1.
        alpha /= np.maximum(alpha.sum(axis=1, keepdims=True), 1e-30)
        entropy = -np.sum(alpha * np.log(np.maximum(alpha, 1e-30)), axis=1)
        self.total = self.total + (entropy / np.log(neighbors[several])[:, None]).sum(
            axis=0
        )
        self.count += int(several.sum())

    def result(self, _class_names: Sequence[str]) -> dict[str, Any]:
        """One number per group."""
        return {"entropy": (self.total / max(self.count, 1)).tolist()}


class FieldAttentionEntropy:
    """Entropy of the attention heads of one layer among all points of a field.

    Args:
        layer: A `FieldAttentionLayer` of a network.
    """

    part = "attention"

    def __init__(self, layer: FieldAttentionLayer, _n_classes: int):
        self.layer = layer
        self.level = _level(layer)
        self.total, self.count = np.zeros(layer.attention.num_query_heads), 0

    def add(self, inputs: list, _classes: np.ndarray) -> None:
        """Add the entropies of a batch of the layer's inputs."""
        X, _, N = inputs
        real = np.any(_present(N, X), axis=-1)  # (B, R)
        scores = ops.cast(self.layer.attention_scores(inputs), "float32")
        for rows, heads in zip(real, ops.convert_to_numpy(scores), strict=True):
            points = int(rows.sum())
            if points < 2:
                continue
            alpha = heads[:, rows].astype(np.float64)  # (U, n, R)
            entropy = -np.sum(alpha * np.log(np.maximum(alpha, 1e-30)), axis=(1, 2))
            self.total += entropy / np.log(points)
            self.count += points

    def result(self, _class_names: Sequence[str]) -> dict[str, Any]:
        """One number per head."""
        return {"entropy": (self.total / max(self.count, 1)).tolist()}


ACCUMULATORS: dict[type, Callable[[Any, int], Accumulator]] = {
    KPConvXLayer: ConvolutionStatistics,
    GroupedVectorAttentionLayer: NeighborAttentionEntropy,
    EnvelopeGatedAttention: NeighborAttentionEntropy,
    FieldAttentionLayer: FieldAttentionEntropy,
}


def _sample(
    cloud: PreparedCloud, spec: Spec, scaling: FeatureScaling
) -> Iterator[tuple[Inputs, np.ndarray]]:
    """Yield batches of fields of a cloud, and their ``(B, R_0)`` labels."""
    source = FieldSource(cloud, spec, scaling)
    sweep = cover(cloud, spec, seed=spec.seed, extractor=source.extractor)
    chosen = np.unique(np.linspace(0, len(sweep) - 1, FIELDS).astype(int))
    size = spec.prediction_batch
    for first in range(0, len(chosen), size):
        batch = empty_batch(spec, len(scaling.names), size)
        labels = np.full((size, spec.model.stages[0].points), -1)
        for slot, number in enumerate(chosen[first : first + size]):
            rows = source.write(batch, slot, sweep.centers[number], sweep.rows[number])
            labels[slot, : len(rows)] = cloud.labels[rows]
        yield batch, labels


def _classes_of_levels(
    inputs: Inputs, labels: np.ndarray, spec: Spec
) -> list[np.ndarray]:
    """``(B, R_l)`` class of each point of each level; -1 where it is unknown."""
    n_classes = len(spec.classes)
    counts = (labels[..., None] == np.arange(n_classes)).astype(np.int64)
    found = []
    for level, stage in enumerate(spec.model.stages):
        if level:
            up = inputs[f"up_{level - 1}"][..., 0]
            coarser = np.zeros((len(up), stage.points, n_classes), np.int64)
            field, row = np.nonzero(up >= 0)
            np.add.at(coarser, (field, up[field, row]), counts[field, row])
            counts = coarser
        known = counts.any(axis=-1)
        found.append(np.where(known, counts.argmax(axis=-1), -1))
    return found


def _level(layer: keras.layers.Layer) -> int:
    """The level of a layer's centers, read from the name of its neighbor input."""
    # The source is an input, or the layer that repeats it for rotated copies and
    # has its name.
    source = layer.input[2]._keras_history.operation.name
    kind, _, number = source.rpartition("_")
    return int(number) + kind.endswith("down")


def _present(neighbors, support) -> np.ndarray:
    rows: np.ndarray = ops.convert_to_numpy(neighbors)
    return (rows >= 0) & (rows < support.shape[1])


def _shares(counts: np.ndarray) -> list[float]:
    return (counts / max(counts.sum(), 1)).tolist()
