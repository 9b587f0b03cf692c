"""Time and peak memory of reading and writing LAS and LAZ, compared with laspy.

Run from the project root (4 million points take about two minutes)::

    python -m benchmarks.bench_las --points 4000000 --repeats 7
    python -m benchmarks.bench_las --store benchmarks/results/las.md

Reading: coordinates as float64, intensity, return number and class. Writing: a
copy with `prediction` and `confidence`. laspy does the same work by
`laspy.read`, arrays from the result, `add_extra_dims` and `write`. The runs take
turns, each in a fresh process, whose peak memory is that of the whole job; the
time does not include its start.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import laspy
import numpy as np

from benchmarks.timing import wrapped
from vl3d_lite.clouds.reading import read_las
from vl3d_lite.clouds.writing import write_las

MACHINE = "2 shared cores, 24 GiB"


def make_cloud(path: Path, points: int) -> None:
    """A strip of hilly ground with the point pattern of a scanner."""
    rng = np.random.default_rng(0)
    header = laspy.LasHeader(version="1.4", point_format=7)
    header.scales, header.offsets = [0.01] * 3, [500_000, 4_800_000, 0]
    las = laspy.LasData(header)
    x = np.sort(rng.uniform(0, points / 4_000, points))
    las.x, las.y = x + 500_000, rng.uniform(0, 50, points) + 4_800_000
    las.z = 10 * np.sin(x / 50) + rng.normal(0, 0.05, points)
    las.intensity = rng.integers(0, 2_000, points)
    las.return_number = 1 + rng.integers(0, 2, points)
    las.number_of_returns = np.full(points, 2)
    las.classification = rng.integers(1, 7, points)
    las.gps_time = np.arange(points) / 1e5
    las.red = rng.integers(0, 65_535, points)
    for target in (path.with_suffix(".las"), path.with_suffix(".laz")):
        las.write(target)


def laspy_raw(source: Path, _: Path) -> None:
    laspy.read(source)


def laspy_read(source: Path, _: Path) -> None:
    las = laspy.read(source)
    for name in ("xyz", "intensity", "return_number", "classification"):
        np.array(getattr(las, name))


def our_read(source: Path, _: Path) -> None:
    read_las(
        source, dimensions=["intensity", "return_number"], class_codes={"ground": [2]}
    )


def result_of(source: Path) -> tuple[np.ndarray, np.ndarray]:
    """The dimensions of a prediction: a code and a confidence for every point."""
    with laspy.open(source) as reader:
        points = reader.header.point_count
    codes = (np.arange(points) % 7).astype(np.uint16)
    return codes, np.linspace(0, 1, points, dtype=np.float32)


def laspy_write(source: Path, target: Path) -> None:
    prediction, confidence = result_of(source)
    las = laspy.read(source)
    las.add_extra_dims(
        [
            laspy.ExtraBytesParams("prediction", "u2"),
            laspy.ExtraBytesParams("confidence", "f4"),
        ]
    )
    las.prediction, las.confidence = prediction, confidence
    las.write(target)


def our_write(source: Path, target: Path) -> None:
    prediction, confidence = result_of(source)
    dimensions = {"prediction": (prediction, "u2"), "confidence": (confidence, "f4")}
    write_las(source, target, dimensions, overwrite=True)


JOBS = {
    "laspy.read alone": laspy_raw,
    "laspy, read": laspy_read,
    "vl3d_lite, read": our_read,
    "laspy, write": laspy_write,
    "vl3d_lite, write": our_write,
}


def peak_memory() -> float:
    """Peak memory of this process in MB (Linux)."""
    status = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def run(job: str, source: Path, target: Path) -> tuple[float, float]:
    """Seconds and peak MB of one job in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.bench_las", "--job", job]
    command += [str(source), str(target)]
    return tuple(json.loads(subprocess.check_output(command, text=True)))


def table(points: int, repeats: int) -> str:
    """The measured table, as Markdown."""
    lines = [
        "| file | job | seconds (median) | of laspy's | peak memory, MB |",
        "|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        cloud = Path(folder) / "cloud"
        make_cloud(cloud, points)
        for suffix in (".las", ".laz"):
            source, target = cloud.with_suffix(suffix), cloud.with_name("out" + suffix)
            runs: dict[str, list[tuple[float, float]]] = {job: [] for job in JOBS}
            for _ in range(repeats):
                for job in JOBS:
                    runs[job].append(run(job, source, target))
            seconds = {j: statistics.median(s for s, _ in r) for j, r in runs.items()}
            for job, measured in runs.items():
                verb = job.split()[-1]
                peer = seconds.get(f"laspy, {verb}", seconds["laspy, read"])
                peak = max(memory for _, memory in measured)
                lines.append(
                    f"| {suffix} | {job} | {seconds[job]:.2f} "
                    f"| {seconds[job] / peer:.2f} | {peak:.0f} |"
                )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=4_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--job", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.job:
        job, source, target = arguments.job
        start = time.perf_counter()
        JOBS[job](Path(source), Path(target))
        seconds = time.perf_counter() - start
        sys.stdout.write(json.dumps([seconds, peak_memory()]))
        return
    measured = table(arguments.points, arguments.repeats)
    report = (
        f"# Reading and writing, {arguments.points} points\n\n"
        f"{datetime.date.today()}, {MACHINE}; laspy {laspy.__version__}; medians of "
        f"{arguments.repeats} interleaved runs. Point format 7; reading gives "
        "coordinates, intensity, return number and class; writing a copy with "
        "`prediction` and `confidence`.\n\n"
        f"    python -m benchmarks.bench_las --points {arguments.points} "
        f"--repeats {arguments.repeats}\n\n{measured}\n"
    )
    report = wrapped(report)
    sys.stdout.write(report)
    if arguments.store:
        arguments.store.write_text(report)


if __name__ == "__main__":
    main()
