"""Prediction from reading to writing: points/s and peak memory.

Run:
    python -m benchmarks.bench_prediction
    python -m benchmarks.bench_prediction --cloud scan.laz --jit on
    python -m benchmarks.bench_prediction --tiles 57 --repeats 1   # 20 million points

The network is that of configs/dense_als.yaml, trained for one step: its speed
does not depend on its weights. It uses two votes. Import, loading and compilation
are excluded: the first prediction is not counted. Without --cloud the cloud is
data/town_train.laz, repeated --tiles times side by side.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.scenes import tiled

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cloud", type=Path)
    parser.add_argument("--tiles", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--grid-size", type=float, default=0.4)
    parser.add_argument("--jit", choices=("on", "off"), default="off")
    arguments = parser.parse_args()

    from vl3d_lite import pipeline
    from vl3d_lite.prediction.classifier import Classifier
    from vl3d_lite.prediction.inference import Inference
    from vl3d_lite.runs.folder import RunFolder
    from vl3d_lite.runs.options import Options
    from vl3d_lite.spec.reader import read_spec
    from vl3d_lite.system.interrupts import Interrupts

    town = ROOT / "data/town_train.laz"
    loaded = read_spec(
        ROOT / "configs/dense_als.yaml",
        [
            f"clouds.train=['{town}']",
            "training.epochs=1",
            "training.steps_per_epoch=1",
            f"training.jit={arguments.jit}",
            f"fields.grid_size={arguments.grid_size}",
        ],
    )
    options = Options(threads=arguments.threads, quiet=True, overwrite=True)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder(Path(folder) / "run")
        pipeline.train(loaded, run, options)
        cloud = arguments.cloud
        if cloud is None:
            cloud = Path(folder) / "town.laz"
            tiled(town, cloud, arguments.tiles)
        spec, scaling = pipeline.open_run(run)
        temperature = pipeline.open_calibration(run, spec)
        inference = Inference(pipeline.load_network(run, spec, scaling), spec)
        target = Path(folder) / f"out{cloud.suffix}"
        seconds = []
        with Interrupts() as interrupts:
            classifier = Classifier(
                inference, spec, scaling, options, interrupts, temperature
            )
            for repeat in range(arguments.repeats + 1):
                began = time.perf_counter()
                source = cloud if repeat else town
                outcome = classifier.write(source, target, classifier.vote(source))
                if repeat:
                    seconds.append(time.perf_counter() - began)
    median = statistics.median(seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("| points | grid, m | XLA | threads | seconds | points a second | peak, MB |")
    print("|--:|--:|---|--:|--:|--:|--:|")
    print(
        f"| {outcome.points:,} | {arguments.grid_size:g} | {arguments.jit} "
        f"| {arguments.threads} | {median:.2f} "
        f"| {outcome.points / median:,.0f} | {peak:,.0f} |"
    )


if __name__ == "__main__":
    main()
