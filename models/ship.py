"""Copy what `predict` and `verify` need of a run, without the places of its clouds.

    python models/ship.py RUN models/NAME [--temperature T]

Checkpoints, kernels, predicted clouds and the report stay behind. In ``spec.yaml``,
``run.json`` and ``predictions.json`` the paths of clouds, and of the run it started
from, become names; the hashes of the spec follow. A temperature given here replaces
the fitted one, as ``prediction.temperature`` of the shipped spec; scored clouds must
have been predicted with it. They are listed in ``scored/``, so that ``predictions/``
is free for the clouds of others. Whoever has the scored clouds repeats the evaluation
with ``vl3d-lite verify`` from the folder they lie in.
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
    "history.csv",
    "metrics.json",
)
SCORED = "scored"


def ship(run: Path, folder: Path, temperature: float | None = None) -> None:
    """Write ``folder``, a run folder that predicts as ``run`` does.

    Args:
        run: A trained run.
        folder: Made where it is not there; files in it are replaced.
        temperature: In place of the one fitted on the run's validation clouds.

    Raises:
        ValueError: The scored clouds were predicted with another temperature.
    """
    receipt = json.loads((run / "run.json").read_text())
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
        receipt["evaluated"] = SCORED
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
        receipt["initial_weights"]["model"] = content["training"]["initial_weights"]
    # What was written then, not today's defaults: the network's hash is of it.
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None)
    (folder / "spec.yaml").write_text(text)
    receipt["spec"] = PurePath(receipt["spec"]).name
    receipt["spec_sha256"] = text_hash(text)
    receipt["network_sha256"] = network_hash(text)
    for entry in receipt["inputs"]:
        entry["path"] = PurePath(entry["path"]).name
    receipt["shipped"] = True
    (folder / "run.json").write_text(json.dumps(receipt, indent=2) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--temperature", type=float)
    arguments = parser.parse_args()
    ship(arguments.run, arguments.folder, arguments.temperature)
