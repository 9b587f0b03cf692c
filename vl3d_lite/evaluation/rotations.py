"""How far predictions hold when a cloud is turned about the vertical axis."""

from collections.abc import Iterator
from dataclasses import dataclass

import keras
import numpy as np

from vl3d_lite.dataset.batches import Inputs, SweepBatches, batch_spec
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.model.ensemble import rebuilt
from vl3d_lite.model.layers import get_group
from vl3d_lite.model.network import build_network
from vl3d_lite.prediction.votes import predict_cells
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.interrupts import Interrupts

OTHERS = tuple(17.0 + 36.0 * number for number in range(10))  # degrees


@dataclass(frozen=True)
class RotationReport:
    """Share of points that keep their class.

    Attributes:
        cloud: Its name.
        points: That are compared.
        group: Name of the group.
        rows: ``(turn, of the group, with, without)``: the turn in words, whether
            it is the group's, and the share with and without the symmetry.
    """

    cloud: str
    points: int
    group: str
    rows: list[tuple[str, bool, float, float]]

    def to_dict(self) -> dict:
        """What ``rotations.json`` holds."""
        return {
            "format": 1,
            "cloud": self.cloud,
            "points": self.points,
            "group": self.group,
            "turns": [
                {"turn": turn, "of_group": own, "with": kept, "without": plain}
                for turn, own, kept, plain in self.rows
            ],
        }

    def table(self) -> str:
        """The shares as text, means last."""
        head = ("turn", f"with {self.group}", "without")
        lines = [f"{head[0]:<28}{head[1]:>12}{head[2]:>12}"]
        for turn, own, kept, plain in self.rows:
            name = f"{turn} ({self.group})" if own else turn
            lines.append(f"{name:<28}{kept:>12.2%}{plain:>12.2%}")
        for name, own in (
            (f"mean of {self.group}", True),
            ("mean of the others", False),
        ):
            shares = [row[2:] for row in self.rows if row[1] == own]
            if shares:
                kept, plain = np.mean(shares, axis=0)
                lines.append(f"{name:<28}{kept:>12.2%}{plain:>12.2%}")
        return "\n".join(lines)


def with_symmetry(
    model: keras.Model, spec: Spec, n_features: int, symmetry: str
) -> keras.Model:
    """The network of a run with another symmetry, and the same weights.

    Args:
        model: The run's network.
        spec: Of the run.
        n_features: Inputs a point.
        symmetry: As ``model.symmetry`` may be.
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
    """The group to compare with: the model's, its decoder's, or C4."""
    if spec.model.symmetry != "none":
        return spec.model.symmetry
    if spec.model.decoder.type == "equivariant_transformer":
        return spec.model.decoder.group
    return "C4"


class TurnedBatches:
    """The batches of a sweep with all coordinates turned, neighbors as they were.

    Args:
        batches: A sweep.
        matrix: ``(3, 3)``, about the vertical axis of each field.
    """

    def __init__(self, batches: SweepBatches, matrix: np.ndarray):
        self.batches, self.matrix = batches, matrix

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Inputs, np.ndarray]]:
        for inputs, indices in self.batches:
            turned = {
                name: (value.astype(np.float64) @ self.matrix.T).astype(np.float32)
                if name.startswith("xyz_")
                else value
                for name, value in inputs.items()
            }
            yield turned, indices


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
    """Predict a cloud as it is and turned; compare the classes of its points.

    Fields and neighbors are those of the cloud as it is, so that only the network
    can make a difference. Turned by every element of the group and by ten other
    angles, with the symmetry and without, by the same weights.

    Args:
        model: The run's network.
        prepared: The cloud.
        spec: Of the run.
        scaling: Of the features.
        threads: Threads that prepare fields.
        interrupts: Asked before every batch whether a signal came.
        quiet: No progress bars.
    """
    group = get_group(symmetry_of(spec))
    turns = [(_words(matrix), True, matrix) for matrix in group.matrices[1:]] + [
        (f"{angle:g} degrees", False, _turn(angle)) for angle in OTHERS
    ]
    batches = SweepBatches(prepared, spec, scaling, votes=1, threads=threads)
    weights = prepared.point_counts
    shares = []
    for symmetry in (symmetry_of(spec), "none"):
        network = with_symmetry(model, spec, len(scaling.names), symmetry)

        def classes(matrix, name, network=network):
            return predict_cells(
                network,
                TurnedBatches(batches, matrix),
                prepared.xyz,
                interrupts=interrupts,
                quiet=quiet,
                description=f"turned by {name}",
            ).classes

        still = classes(np.eye(3), "0 degrees")
        shares.append(
            [
                float(np.average(classes(matrix, name) == still, weights=weights))
                for name, _, matrix in turns
            ]
        )
    rows = [
        (name, own, kept, plain)
        for (name, own, _), kept, plain in zip(turns, *shares, strict=True)
    ]
    return RotationReport(prepared.name, int(weights.sum()), group.name, rows)


def _turn(angle: float) -> np.ndarray:
    cos, sin = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    return np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])


def _words(matrix: np.ndarray) -> str:
    angle = np.rad2deg(np.arctan2(matrix[1, 0], matrix[0, 0])) % 360
    mirrored = "mirrored, " if np.linalg.det(matrix) < 0 else ""
    return f"{mirrored}{angle:g} degrees"
