"""Measure the domain of a run that was trained before runs held one.

    python models/domain.py RUN CLOUD... [--density LOW HIGH]

Writes ``domain.json`` into the folder of the run, and its hash into ``run.json``. The
clouds are those of its training; limits found by scoring clouds of other densities
replace those of the training.
"""

import argparse
from pathlib import Path

from vl3d_lite.dataset.domain import Limits, measure_domain
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.provenance import file_hash
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system.writing import write_text


def measure(
    folder: Path, clouds: list[Path], density: tuple[float, float] | None = None
) -> None:
    """Write ``domain.json`` of a run, and record it.

    Args:
        folder: The run.
        clouds: Its training clouds.
        density: Densities in points/m2 for which its scores are as good as in
            training.
    """
    run = RunFolder(folder)
    spec = read_spec(run.spec, check_files=False).spec
    domain = measure_domain(clouds, spec)
    limits = Limits(density=density)
    write_text(run.domain, domain.model_copy(update={"limits": limits}).to_json())
    files = run.read_provenance().get("files", {})
    run.update_provenance(files={**files, run.domain.name: file_hash(run.domain)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("clouds", type=Path, nargs="+")
    parser.add_argument("--density", type=float, nargs=2)
    arguments = parser.parse_args()
    limits = arguments.density and tuple(arguments.density)
    measure(arguments.run, arguments.clouds, limits)
