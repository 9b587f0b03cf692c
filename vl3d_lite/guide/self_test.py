"""Tests of the installation that may crash: `python -m vl3d_lite.guide.self_test`.

`guide.doctor` runs each in a separate process. Each line on stdout is a JSON object
with ``step`` and a result, or ``error``.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SPEC = """\
classes: {low: 2, high: 6}
clouds: {train: [CLOUD]}
features: [height]
fields: {radius: 8, grid_size: 0.5}
model:
  stages:
    - {points: 256, channels: 8, neighbors: 8, blocks: [kpconvx, gva]}
training: {epochs: 1, steps_per_epoch: 4, batch_size: 2}
export: {kernels: false}
"""
POINTS = 4000


def backend() -> Iterator[dict]:
    """Import Keras and its backend, find GPUs, and compute on each and with XLA."""
    import keras

    name = keras.backend.backend()
    yield {"step": "backend", "name": name, "keras": keras.__version__}
    devices = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
    yield from devices.get(name, _torch)()


def _tensorflow() -> Iterator[dict]:
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    yield {"step": "gpus", "seen": len(gpus)}
    for number in range(len(gpus)):
        with tf.device(f"/GPU:{number}"):
            total = float(tf.reduce_sum(tf.ones((64, 64)) @ tf.ones((64, 64))))
        yield {"step": "gpu", "number": number, "works": total == 64**3}
    compiled = tf.function(lambda x: tf.reduce_sum(x @ x), jit_compile=True)
    began = time.monotonic()
    total = float(compiled(tf.ones((64, 64))))
    seconds = time.monotonic() - began
    yield {"step": "xla", "works": total == 64**3, "seconds": seconds}


def _jax() -> Iterator[dict]:
    import jax

    gpus = [device for device in jax.devices() if device.platform != "cpu"]
    yield {"step": "gpus", "seen": len(gpus)}
    for number, gpu in enumerate(gpus):
        ones = jax.device_put(jax.numpy.ones((64, 64)), gpu)
        total = float((ones @ ones).sum())
        yield {"step": "gpu", "number": number, "works": total == 64**3}
    began = time.monotonic()
    total = float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((64, 64))))
    seconds = time.monotonic() - began
    yield {"step": "xla", "works": total == 64**3, "seconds": seconds}


def _torch() -> Iterator[dict]:
    import torch

    yield {"step": "gpus", "seen": torch.cuda.device_count()}
    for number in range(torch.cuda.device_count()):
        ones = torch.ones((64, 64), device=f"cuda:{number}")
        total = float((ones @ ones).sum())
        yield {"step": "gpu", "number": number, "works": total == 64**3}


def training(folder: Path) -> Iterator[dict]:
    """Write a small cloud and train a small network on it, as `train` does."""
    import laspy

    from vl3d_lite.runs import RunFolder, read_history
    from vl3d_lite.spec import read_spec
    from vl3d_lite.system import cpu_limit, silenced_stderr

    cloud = folder / ("test.laz" if laspy.LazBackend.detect_available() else "test.las")
    _write_cloud(cloud)
    (folder / "spec.yaml").write_text(
        SPEC.replace("CLOUD", cloud.name), encoding="utf-8"
    )
    with silenced_stderr():
        from vl3d_lite.pipeline import train
        from vl3d_lite.runs import Options
    run = RunFolder(folder / "run")
    began = time.monotonic()
    options = Options(threads=cpu_limit(), quiet=True)
    train(read_spec(folder / "spec.yaml"), run, options)
    seconds = time.monotonic() - began
    loss = float(read_history(run.history)[-1]["loss"])
    yield {"step": "training", "loss": loss, "seconds": seconds, "file": cloud.suffix}


def _write_cloud(path: Path) -> None:
    """Write a cloud of ground and a box as LAS 1.4."""
    import laspy
    import numpy as np

    rng = np.random.default_rng(0)
    xy = rng.uniform(0, 30, (POINTS, 2))
    high = np.all(np.abs(xy - 15) < 6, axis=1)
    las = laspy.LasData(laspy.LasHeader(point_format=6, version="1.4"))
    las.header.scales = [0.01] * 3
    las.x, las.y = xy.T
    las.z = 5.0 * high + rng.normal(0, 0.05, POINTS)
    las.classification = np.where(high, 6, 2)
    las.write(str(path))


def open3d() -> Iterator[dict]:
    """Import Open3D."""
    from vl3d_lite.geometry import load_open3d

    yield {"step": "open3d", "version": load_open3d().__version__}


def main(name: str, folder: str) -> None:
    """Run a test and print its results, line by line."""
    tests: dict[str, Callable[[], Iterator[dict]]] = {
        "backend": backend,
        "training": lambda: training(Path(folder)),
        "open3d": open3d,
    }
    step = name
    try:
        for found in tests[name]():
            step = found["step"]
            _print(found)
    # Any error is the result that `doctor` reports.
    except Exception as error:
        text = f"{type(error).__name__}: {error}".strip()
        _print({"step": "error", "after": step, "error": text[:600]})


def _print(found: dict) -> None:
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
