"""The run folder: every name inside it, and writing that is whole or not at all."""

import copy
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.system.version import __version__
from vl3d_lite.system.writing import output_errors, write_json

_SCORES = (
    "metrics",
    "scores",
    "disagreements",
    "confusion_plot",
    "history_plot",
    "report",
)


def _series(version: str) -> list[str]:
    """What versions that read each other's runs share; 0.x may change with x."""
    parts = version.split(".")
    return parts[: 2 if parts[0] == "0" else 1]


class RunFolder:
    """One run on disk: spec, model, scaling, history, scores, kernels, clouds.

    Args:
        root: The folder itself. Nothing is created here; see `create`.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.spec = self.root / "spec.yaml"
        self.model = self.root / "model.keras"
        self.features = self.root / "features.json"
        self.calibration = self.root / "calibration.json"
        self.history = self.root / "history.csv"
        self.history_plot = self.root / "history.png"
        self.metrics = self.root / "metrics.json"
        self.scores = self.root / "metrics.csv"
        self.rotations = self.root / "rotations.json"
        self.disagreements = self.root / "disagreements.csv"
        self.confusion_plot = self.root / "confusion.png"
        self.report = self.root / "report.html"
        self.provenance = self.root / "run.json"
        self.kernels = self.root / "kernels"
        self.tensorboard = self.root / "tensorboard"
        self.predictions = self.root / "predictions"
        self.checkpoints = self.root / "checkpoints"
        self.last_checkpoint = self.checkpoints / "last.npz"
        self.best_weights = self.checkpoints / "best.npz"
        self.initial_kernels = self.checkpoints / "initial_kernels.npz"
        self.bad_batch = self.checkpoints / "diverged_batch.npz"

    def scored_predictions(self) -> Path:
        """The folder whose predictions the scores are of; its own by default."""
        return self.root / self.read_provenance().get(
            "evaluated", self.predictions.name
        )

    def scored_in(self, folder: Path) -> "RunFolder":
        """The run, with its scores and its report in the folder of predictions.

        Only where the run is a shipped model and the predictions are not those it
        was scored on: the scores that came with it stay. Otherwise the run as it is.
        """
        own = self.scored_predictions().resolve() == Path(folder).resolve()
        if own or not self.read_provenance().get("shipped", False):
            return self
        apart = copy.copy(self)
        for name in _SCORES:
            setattr(apart, name, Path(folder) / getattr(self, name).name)
        return apart

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.provenance.is_file()

    def own(self) -> list[Path]:
        """Everything a run writes at the top of its folder."""
        paths = {path for name, path in vars(self).items() if name != "root"}
        return sorted(path for path in paths if path.parent == self.root)

    def require_apart(self, inputs: Iterable[Path]) -> None:
        """Complain where replacing the run would remove what it is made from.

        Raises:
            SpecError: One of `inputs` lies where the run writes.
        """
        own = {path.resolve() for path in self.own()}
        for path in inputs:
            place = path.resolve()
            if own & {place, *place.parents}:
                raise SpecError(
                    f"{path}: lies inside the run that --overwrite would remove; move "
                    "it, or name another folder with --run"
                )

    def refuse_if_present(self, *, resume: bool, overwrite: bool) -> None:
        """Complain early about a folder that must not be touched.

        Raises:
            SpecError: A run lies here and neither flag was given; or the folder
                holds something else; or there is nothing to resume.
        """
        if resume and not self.exists():
            raise SpecError(
                f"{self.root}: no run to resume; leave --resume out to start one"
            )
        if self.exists() and not (resume or overwrite):
            raise SpecError(
                f"{self.root}: a run lies here already; continue it with --resume, "
                "replace it with --overwrite, or name another folder with --run"
            )
        if not self.exists() and self.root.exists():
            if not self.root.is_dir():
                raise SpecError(f"{self.root}: is a file; name a folder with --run")
            if any(self.root.iterdir()):
                raise SpecError(
                    f"{self.root}: the folder holds files that are not a run; "
                    "name an empty or new folder with --run"
                )

    def create(self, *, overwrite: bool) -> None:
        """Make the folder; with `overwrite` an earlier run in it is removed.

        Only what a run writes is removed, not what others left beside it.
        """
        with output_errors(self.root):
            for path in self.own() if overwrite and self.exists() else ():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            self.checkpoints.mkdir(parents=True, exist_ok=True)

    def require_model(self) -> None:
        """Complain where the folder cannot be predicted with.

        Raises:
            DataError: It is no run folder, training did not end, or a file is
                missing.
        """
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such run folder")
        try:
            self.provenance.exists()
        except PermissionError as error:
            raise DataError(
                f"{self.root}: cannot be read ({error.strerror}); check the permissions"
            ) from error
        if not self.exists():
            raise DataError(
                f"{self.root}: not a run folder (it has no run.json); give the folder "
                "that `vl3d-lite train` wrote"
            )
        for path in (self.spec, self.provenance, self.features, self.model):
            if not path.is_file():
                trained = self.last_checkpoint.is_file() and path == self.model
                remedy = (
                    "training did not end; continue it with `vl3d-lite train --resume`"
                    if trained
                    else "restore the file from a copy or train again"
                )
                raise DataError(f"{self.root}: {path.name} is missing; {remedy}")
        version = self.read_provenance().get("vl3d_lite", "unknown")
        if _series(version) != _series(__version__):
            raise DataError(
                f"{self.root}: written by vl3d_lite {version}, this is "
                f"{__version__}; install that version or train again"
            )

    def read_provenance(self) -> dict:
        """What run.json says; an empty dict where there is none.

        Raises:
            DataError: The file is not JSON.
        """
        if not self.provenance.is_file():
            return {}
        try:
            content = json.loads(self.provenance.read_text())
        except (OSError, ValueError) as error:
            raise DataError(f"{self.provenance}: cannot be read ({error})") from error
        if not isinstance(content, dict):
            raise DataError(f"{self.provenance}: is not a run's receipt")
        return content

    def update_provenance(self, **entries) -> None:
        """Add or replace entries of run.json."""
        write_json(self.provenance, {**self.read_provenance(), **entries})
