"""Stability of predictions under rotation of a cloud about the vertical axis."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import keras
import numpy as np

from vl3d_lite.dataset import (
    FeatureScaling,
    Inputs,
    PreparedCloud,
    SweepBatches,
    batch_spec,
)
from vl3d_lite.model import build_network, rebuilt
from vl3d_lite.model.layers import get_group
from vl3d_lite.prediction import predict_cells
from vl3d_lite.spec import Spec
from vl3d_lite.system import Interrupts

# Degrees; spread evenly, and none is a rotation of a group in use.
OTHER_ANGLES = tuple(17.0 + 36.0 * number for number in range(10))


@dataclass(frozen=True)
class RotationReport:
    """Share of points that keep their predicted class under each rotation.

    Attributes:
        cloud: Name of the cloud.
        points: Number of compared points.
        group: Name of the symmetry group.
        rows: ``(rotation, own, kept, plain)``: the name of the rotation, whether
            it is an element of the group, and the shares in [0, 1] with and
            without the symmetry.
    """

    cloud: str
    points: int
    group: str
    rows: list[tuple[str, bool, float, float]]

    def to_dict(self) -> dict:
        """Content of ``rotations.json``."""
        return {
            "format": 1,
            "cloud": self.cloud,
            "points": self.points,
            "group": self.group,
            "rotations": [
                {"rotation": name, "of_group": own, "with": kept, "without": plain}
                for name, own, kept, plain in self.rows
            ],
        }


def with_symmetry(
    model: keras.Model, spec: Spec, n_features: int, symmetry: str
) -> keras.Model:
    """Build the network of a run with another symmetry and the same weights.

    Args:
        model: Network of the run.
        spec: Spec of the run.
        n_features: Number of input features per point.
        symmetry: A value of the spec key ``model.symmetry``.
    """

    def build() -> keras.Model:
        return build_network(
            spec.model.model_copy(update={"symmetry": symmetry}),
            batch_spec(spec, n_features),
            n_classes=len(spec.classes),
            spacings=spec.spacings,
            precision=spec.training.precision,
        )

    return rebuilt(model, build)


def symmetry_of(spec: Spec) -> str:
    """The symmetry group of the model, of its decoder, or C4 where there is none."""
    if spec.model.symmetry != "none":
        return spec.model.symmetry
    if spec.model.decoder.type == "equivariant_transformer":
        return spec.model.decoder.group
    return "C4"


class RotatedBatches:
    """Batches of a sweep with rotated coordinates and unchanged neighbors.

    Args:
        batches: Batches of a sweep.
        matrix: ``(3, 3)`` float, a rotation or reflection that fixes the vertical
            axis; it is applied about the center of each field.
    """

    def __init__(self, batches: SweepBatches, matrix: np.ndarray):
        self.batches, self.matrix = batches, matrix

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Inputs, np.ndarray]]:
        for inputs, indices in self.batches:
            rotated = {
                name: (value.astype(np.float64) @ self.matrix.T).astype(np.float32)
                if name.startswith("xyz_")
                else value
                for name, value in inputs.items()
            }
            yield rotated, indices


def measure_rotations(
    model: keras.Model,
    prepared: PreparedCloud,
    spec: Spec,
    scaling: FeatureScaling,
    *,
    threads: int = 1,
    interrupts: Interrupts | None = None,
    quiet: bool = True,
) -> RotationReport:
    """Predict a cloud as it is and rotated, and compare the classes of its points.

    Fields and neighbors are those of the cloud as it is, so that any difference
    comes from the network. The cloud is rotated by every element of the group and
    by `OTHER_ANGLES`; both networks, with and without the symmetry, have the same
    weights.

    Args:
        model: Network of the run.
        prepared: The cloud.
        spec: Spec of the run.
        scaling: Scaling of the features.
        threads: Number of threads that prepare fields.
        interrupts: Checked before every batch for a signal.
        quiet: Show no progress bars.

    Raises:
        InterruptedRunError: A signal was received.
    """
    group = get_group(symmetry_of(spec))
    rotations = _rotations(group.matrices)
    batches = SweepBatches(prepared, spec, scaling, votes=1, threads=threads)
    weights = prepared.point_counts
    shares = []
    for symmetry in (symmetry_of(spec), "none"):
        network = with_symmetry(model, spec, len(scaling.names), symmetry)

        def classes(matrix, name, network=network):
            return predict_cells(
                network,
                # The prediction needs no more of its batches than length and items.
                cast(SweepBatches, RotatedBatches(batches, matrix)),
                prepared.xyz,
                interrupts=interrupts,
                quiet=quiet,
                description=f"rotated by {name}",
            ).class_index

        reference = classes(np.eye(3), "0 degrees")
        shares.append(
            [
                float(np.average(classes(matrix, name) == reference, weights=weights))
                for name, _, matrix in rotations
            ]
        )
    rows = [
        (name, own, kept, plain)
        for (name, own, _), kept, plain in zip(rotations, *shares, strict=True)
    ]
    return RotationReport(prepared.name, int(weights.sum()), group.name, rows)


def _rotations(elements: np.ndarray) -> list[tuple[str, bool, np.ndarray]]:
    """Name, whether it is of the group, and matrix of each rotation to test."""
    # The first element of a group is the identity.
    own = [(_name(matrix), True, matrix) for matrix in elements[1:]]
    return own + [
        (f"{angle:g} degrees", False, _rotation(angle)) for angle in OTHER_ANGLES
    ]


def _rotation(angle: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _name(matrix: np.ndarray) -> str:
    angle = np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])) % 360
    mirrored = "mirrored, " if np.linalg.det(matrix) < 0 else ""
    return f"{mirrored}{angle:g} degrees"
