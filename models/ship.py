"""Copy what `predict` needs of a run folder, without the places of its clouds.

    python models/ship.py RUN models/NAME

Checkpoints, kernels, predictions and the report stay behind. In ``spec.yaml`` and
``run.json`` the paths of clouds become file names; the hash of the spec follows.
"""

import argparse
import json
import shutil
from pathlib import Path, PurePath

import yaml

from vl3d_lite.receipt import text_hash

KEPT = ("model.keras", "features.json", "calibration.json", "history.csv")


def ship(run: Path, folder: Path) -> None:
    """Write ``folder``, a run folder that predicts as ``run`` does.

    Args:
        run: A trained run.
        folder: Made where it is not there; files in it are replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    content = yaml.safe_load((run / "spec.yaml").read_text())
    content["clouds"] = {
        group: [PurePath(path).name for path in paths]
        for group, paths in content["clouds"].items()
    }
    # What was written then, not today's defaults: the network's hash is of it.
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    (folder / "spec.yaml").write_text(text)
    receipt = json.loads((run / "run.json").read_text())
    receipt["spec"] = PurePath(receipt["spec"]).name
    receipt["spec_sha256"] = text_hash(text)
    for entry in receipt["inputs"]:
        entry["path"] = PurePath(entry["path"]).name
    (folder / "run.json").write_text(json.dumps(receipt, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    ship(arguments.run, arguments.folder)
