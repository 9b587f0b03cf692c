"""Attention scores among the points of a coarse stage, as numbers and plots.

One folder per layer, with files of a few fields spread over a cloud::

    attention/<layer>/field_0.npz        scores (U, n, n), xyz (n, 3), chosen
    attention/<layer>/field_0.csv        one row per point: position, scores
    attention/<layer>/field_0_heads.png  scores of each head as a matrix
    attention/<layer>/field_0_view.png   scores of the query point, seen from above
"""

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from vl3d_lite.dataset import (
    FeatureScaling,
    FieldSource,
    PreparedCloud,
    cover,
    empty_batch,
)
from vl3d_lite.kernels import plot_heads, plot_view
from vl3d_lite.model.layers import FieldAttentionLayer
from vl3d_lite.spec import Spec
from vl3d_lite.system import output_errors, write_bytes

__all__ = ["FIELDS", "FOLDER", "FieldScores", "measure_scores", "write_scores"]

FOLDER = "attention"
FIELDS = 4  # per cloud; the size of scores is quadratic in the points


@dataclass(frozen=True)
class FieldScores:
    """Attention scores among the points of one field in one layer.

    Attributes:
        layer: Name of the layer.
        number: Number of the field, from 0.
        xyz: ``(n, 3)`` float64, the real points in the CRS and the unit of the
            cloud.
        scores: ``(U, n, n)`` float32: head, query, key. Rows sum to 1.
        chosen: Row of the point nearest to the center of the field.
        unit: Unit of x and y, such as "us-ft".
    """

    layer: str
    number: int
    xyz: np.ndarray
    scores: np.ndarray
    chosen: int
    unit: str = "m"


def measure_scores(
    model: keras.Model, cloud: PreparedCloud, spec: Spec, scaling: FeatureScaling
) -> Iterator[FieldScores]:
    """Yield the scores of every `FieldAttentionLayer` on a few fields of a cloud.

    Args:
        model: The network; nothing is yielded without such a layer.
        cloud: At most `FIELDS` of its fields are used, evenly spread over the
            fuller half of the fields that cover it.
        spec: Spec of the run.
        scaling: Scaling of the features.
    """
    layers = [layer for layer in model.layers if type(layer) is FieldAttentionLayer]
    if not layers:
        return
    # Keras unwraps a list of one output; with the logits there are at least two.
    outputs = [model.outputs[0], *(layer.input for layer in layers)]
    inner = keras.Model(model.inputs, outputs)
    source = FieldSource(cloud, spec, scaling)
    sweep = cover(cloud, spec, seed=spec.seed, extractor=source.extractor)
    sizes = np.array([len(rows) for rows in sweep.rows])
    full = np.flatnonzero(sizes >= np.median(sizes))
    chosen_fields = full[np.unique(np.linspace(0, len(full) - 1, FIELDS).astype(int))]
    for number, field in enumerate(chosen_fields):
        batch = empty_batch(spec, len(scaling.names), 1)
        rows = source.write(batch, 0, sweep.centers[field], sweep.rows[field])
        center = source.extractor.extract(sweep.centers[field], rows).center
        _, *tensors = inner(batch, training=False)
        for layer, inputs in zip(layers, tensors, strict=True):
            real = ops.convert_to_numpy(inputs[2])[0] >= 0
            real = np.flatnonzero(real.any(axis=-1))
            local = ops.convert_to_numpy(inputs[0])[0][real].astype(np.float64)
            scores = ops.cast(layer.attention_scores(inputs), "float32")
            scores = ops.convert_to_numpy(scores)[0][:, real][:, :, real]
            chosen = int(np.argmin(np.square(local).sum(axis=1)))
            xyz = cloud.frame.coordinates(local + center)
            yield FieldScores(layer.name, number, xyz, scores, chosen, cloud.frame.unit)


def write_scores(
    folder: Path, found: Iterator[FieldScores], *, plots: bool = True
) -> list[Path]:
    """Write scores below `folder` and remove earlier scores of the same layers.

    Args:
        folder: The folder; it is created where it is missing.
        found: Scores, as `measure_scores` yields them.
        plots: Whether to draw PNG files.

    Returns:
        The written files.

    Raises:
        ResourceError: The folder cannot be written.
    """
    files: list[Path] = []
    for entry in found:
        layer_folder = folder / re.sub(r"[^0-9A-Za-z_.-]", "_", entry.layer)
        contents = {".npz": _arrays(entry), ".csv": _table(entry).encode("ascii")}
        if plots:
            title = f"{entry.layer}, field {entry.number}"
            contents["_heads.png"] = plot_heads(entry.scores, title)
            contents["_view.png"] = plot_view(
                entry.xyz,
                entry.scores[:, entry.chosen],
                entry.chosen,
                title,
                unit=entry.unit,
            )
        for suffix, content in contents.items():
            path = layer_folder / f"field_{entry.number}{suffix}"
            write_bytes(path, content)
            files.append(path)
    stale = re.compile(r"field_\d+(\.npz|\.csv|_heads\.png|_view\.png)")
    for layer_folder in {file.parent for file in files}:
        with output_errors(layer_folder):
            for file in layer_folder.iterdir():
                if file not in files and stale.fullmatch(file.name):
                    file.unlink()
    return files


def _arrays(entry: FieldScores) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, scores=entry.scores, xyz=entry.xyz, chosen=entry.chosen)
    return buffer.getvalue()


def _table(entry: FieldScores) -> str:
    heads = range(len(entry.scores))
    names = [
        *("x", "y", "z"),
        *(f"received_{head}" for head in heads),
        *(f"from_chosen_{head}" for head in heads),
    ]
    # Mean over queries: the share of the whole attention that a key receives.
    received = entry.scores.mean(axis=1)
    columns = np.concatenate([received, entry.scores[:, entry.chosen]]).T
    rows = [
        ",".join([*(f"{value:.3f}" for value in point), *(f"{v:.6g}" for v in values)])
        for point, values in zip(entry.xyz, columns, strict=True)
    ]
    return "\n".join([",".join(names), *rows, ""])
