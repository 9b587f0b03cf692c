"""The kernels of a network, as arrays."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from keras import ops

from vl3d_lite.errors import DataError
from vl3d_lite.model.layers import KPConvXLayer
from vl3d_lite.system.writing import replacing


@dataclass(frozen=True)
class Kernel:
    """One layer's kernel.

    Attributes:
        name: The layer's name.
        Q: ``(mq, 3)`` float32, kernel points in meters.
        W: ``(blocks, mq, D)`` float32, weights.
        facts: ``sigma``, ``shell_radii``, ``shell_points`` and other sizes.
    """

    name: str
    Q: np.ndarray
    W: np.ndarray
    facts: dict = field(default_factory=dict)


def kernels_of(model) -> list[Kernel]:
    """The kernel of every kernel point convolution of a network, in order."""
    return [
        Kernel(
            layer.name,
            ops.convert_to_numpy(layer.Q),
            ops.convert_to_numpy(layer.W),
            layer.kernel_facts(),
        )
        for layer in model.layers
        if isinstance(layer, KPConvXLayer)
    ]


def save_kernels(path: Path, kernels: list[Kernel]) -> None:
    """Keep ``Q`` and ``W`` of every kernel in one npz file."""
    arrays = {
        f"{kernel.name}/{part}": getattr(kernel, part)
        for kernel in kernels
        for part in ("Q", "W")
    }
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_kernels(path: Path, like: list[Kernel]) -> list[Kernel]:
    """The kernels `save_kernels` wrote, with the names and facts of `like`.

    Raises:
        DataError: The file is missing, damaged, or of another network.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return [
                Kernel(
                    kernel.name,
                    file[f"{kernel.name}/Q"],
                    file[f"{kernel.name}/W"],
                    kernel.facts,
                )
                for kernel in like
            ]
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"{path}: does not hold the kernels of this network ({error}); "
            "restore it from a copy or train again"
        ) from error
