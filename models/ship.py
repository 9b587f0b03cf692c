"""Copy the files of a run that `predict` and `verify` need, without private paths.

    python models/ship.py RUN models/NAME [--temperature T]

Checkpoints, kernels, predicted clouds and the report are not copied. In ``spec.yaml``,
``run.json`` and ``predictions.json`` the paths of clouds, and of the run that gave the
initial weights, become file names, and the hashes of the spec are renewed. A
temperature given here replaces the fitted one, as ``prediction.temperature`` of the
shipped spec; the scored clouds must have been predicted with it. They are listed in
``scored/``, so that ``predictions/`` is free for the clouds of users. Users who have
the scored clouds repeat the evaluation with ``vl3d-lite verify`` in their folder.
"""

import argparse
import json
import shutil
from pathlib import Path, PurePath

import yaml

from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.provenance import network_hash, text_hash

KEPT = (
    "model.keras",
    "features.json",
    "calibration.json",
    "domain.json",
    "history.csv",
    "metrics.json",
)
SCORED = "scored"


def ship(run: Path, folder: Path, temperature: float | None = None) -> None:
    """Write ``folder``, a run folder that predicts as ``run`` does.

    Args:
        run: A trained run.
        folder: Created if it does not exist; files in it are replaced.
        temperature: Used instead of the one fitted on the validation clouds.

    Raises:
        ValueError: The scored clouds were predicted with another temperature.
    """
    provenance = json.loads((run / "run.json").read_text())
    listing = RunFolder(run).scored_predictions() / "predictions.json"
    outcomes = {"clouds": []}
    if (run / "metrics.json").is_file():
        outcomes = json.loads(listing.read_text())
    for cloud in outcomes["clouds"]:
        if temperature is not None and cloud["temperature"] != temperature:
            raise ValueError(
                f"{listing}: {cloud['output']} must have been predicted with the "
                f"temperature {temperature}. Received: {cloud['temperature']}. Predict "
                f"with --set prediction.temperature={temperature} and evaluate again"
            )
        cloud["source"] = PurePath(cloud["source"]).name
    folder.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copyfile(run / name, folder / name)
    if outcomes["clouds"]:
        (folder / SCORED).mkdir(exist_ok=True)
        (folder / SCORED / listing.name).write_text(json.dumps(outcomes) + "\n")
        provenance["evaluated"] = SCORED
    content = yaml.safe_load((run / "spec.yaml").read_text())
    content["clouds"] = {
        group: [PurePath(path).name for path in paths]
        for group, paths in content["clouds"].items()
    }
    if temperature is not None:
        content["prediction"]["temperature"] = temperature
    if content["training"].get("initial_weights"):
        content["training"]["initial_weights"] = PurePath(
            content["training"]["initial_weights"]
        ).name
        provenance["initial_weights"]["model"] = content["training"]["initial_weights"]
    # The text of the run without the defaults of this version: its hash is stored.
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    (folder / "spec.yaml").write_text(text)
    provenance["spec"] = PurePath(provenance["spec"]).name
    provenance["spec_sha256"] = text_hash(text)
    provenance["network_sha256"] = network_hash(text)
    for entry in provenance["inputs"]:
        entry["path"] = PurePath(entry["path"]).name
    provenance["shipped"] = True
    (folder / "run.json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--temperature", type=float)
    arguments = parser.parse_args()
    ship(arguments.run, arguments.folder, arguments.temperature)
