"""Kernel folders that the tests write and read."""

import numpy as np

from vl3d_lite.kernels.export import export_kernel, export_model_kernels

NASTY = 'a</script><b title="x">&amp;'
SHELLS = {"sigma": 2.1, "shell_radii": [0.0, 2.1], "shell_points": [1, 4]}


def export(folder, kernel, **options):
    Q, W = kernel
    options = {"name": "block", **SHELLS, "plots": False, **options}
    return export_kernel(folder, Q, W, **options)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_kernels(folder):
    """A run folder with two layers before and after training."""
    rng = np.random.default_rng(5)
    meta = {"sigma": 2.1, "shell_radii": [0.0, 2.1], "shell_points": [1, 5]}
    layers = []
    for name, blocks, channels in (("fine", 1, 8), (NASTY, 2, 12)):
        Q, W = rng.normal(0, 1, (6, 3)), rng.normal(0, 1, (blocks, 6, channels))
        layers.append((name, Q, W, meta))
    kernels = folder / "kernels"
    export_model_kernels(layers, kernels, "INIT", plots=False)
    past = {name: W for name, _, W, _ in layers}
    layers = [(name, Q, 1.5 * W, meta) for name, Q, W, meta in layers]
    extra = {"spec_hash": "93ce0cff" * 8}
    export_model_kernels(
        layers, kernels, "TRAINED", past=past, extra=extra, plots=False
    )
    return folder
