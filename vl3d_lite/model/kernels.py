"""The kernels of a network as arrays, in memory and in one file."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from keras import ops

from vl3d_lite.errors import DataError
from vl3d_lite.model.layers import KPConvXLayer
from vl3d_lite.system import read_arrays, replacing


@dataclass(frozen=True)
class LayerKernel:
    """The kernel of one layer.

    Attributes:
        name: The layer's name.
        Q: ``(mq, 3)`` float32, kernel points in meters.
        W: ``(blocks, mq, D)`` float32, weights.
        facts: Arguments of the layer, see `KPConvXLayer.kernel_facts`.
    """

    name: str
    Q: np.ndarray
    W: np.ndarray
    facts: dict = field(default_factory=dict)


def kernels_of(model) -> list[LayerKernel]:
    """Return the kernel of every kernel point convolution of a network, in order."""
    return [
        LayerKernel(
            layer.name,
            ops.convert_to_numpy(layer.Q),
            ops.convert_to_numpy(layer.W),
            layer.kernel_facts(),
        )
        for layer in model.layers
        if isinstance(layer, KPConvXLayer)
    ]


def save_kernels(path: Path, kernels: list[LayerKernel]) -> None:
    """Write ``Q`` and ``W`` of every kernel to one npz file."""
    arrays = {
        f"{kernel.name}/{part}": getattr(kernel, part)
        for kernel in kernels
        for part in ("Q", "W")
    }
    with replacing(path) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_kernels(path: Path, like: list[LayerKernel]) -> list[LayerKernel]:
    """Load the kernels that `save_kernels` wrote.

    Args:
        path: The npz file.
        like: Kernels of the same network, whose names and facts are taken.

    Raises:
        DataError: The file is missing, damaged, or belongs to another network.
    """
    remedy = "restore it from a copy or train again"
    arrays = read_arrays(path, remedy)
    for kernel in like:
        for part in ("Q", "W"):
            found = arrays.get(f"{kernel.name}/{part}")
            if found is None or found.shape != getattr(kernel, part).shape:
                raise DataError(
                    f"{path}: does not hold the kernels of this network "
                    f"(`{kernel.name}/{part}`); {remedy}"
                )
    return [
        LayerKernel(
            kernel.name,
            arrays[f"{kernel.name}/Q"],
            arrays[f"{kernel.name}/W"],
            kernel.facts,
        )
        for kernel in like
    ]
