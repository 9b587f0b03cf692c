"""The run folder: the name of every file in it, and its provenance."""

import copy
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.system import (
    __version__,
    file_hash,
    is_draft,
    locked,
    output_errors,
    read_record,
    real_path,
    remove_leftovers,
    require_free,
    require_usable_path,
    shipped_hint,
    write_bytes,
    write_json,
)

# Attributes of the files that an evaluation writes.
_SCORES = (
    "metrics",
    "scores",
    "disagreements",
    "confusion_plot",
    "history_plot",
    "report",
)

_LOCK = ".lock"  # held by the process that writes the run
# There from the moment a run is created or replaced until `run.json` describes it.
_STARTING = ".starting"


def _series(version: str) -> list[str]:
    """The part of a version that versions with the same run format share."""
    parts = version.split(".")
    # Before 1.0 the format may change with the minor version.
    return parts[: 2 if parts[0] == "0" else 1]


class RunFolder:
    """One run on disk: spec, model, scaling, history, scores, kernels, predictions.

    Args:
        root: The folder itself. `create` creates it.
    """

    def __init__(self, root: Path):
        self.root = Path(root)
        self.spec = self.root / "spec.yaml"
        self.model = self.root / "model.keras"
        self.features = self.root / "features.json"
        self.calibration = self.root / "calibration.json"
        self.domain = self.root / "domain.json"
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
        self.previous_checkpoint = self.checkpoints / "previous.npz"
        self.best_weights = self.checkpoints / "best.npz"
        self.initial_kernels = self.checkpoints / "initial_kernels.npz"
        self.bad_batch = self.checkpoints / "diverged_batch.npz"

    def scored_predictions(self) -> Path:
        """The folder of the predictions that were scored; by default the own one."""
        return self.root / self.read_provenance().get(
            "evaluated", self.predictions.name
        )

    def scored_in(self, folder: Path) -> "RunFolder":
        """The run folder with the paths that the scores of predictions go to.

        A shipped model keeps the scores it came with: the scores of other
        predictions go into the folder of these predictions. Other runs are returned
        as they are.

        Args:
            folder: The folder of the predictions.
        """
        own = real_path(self.scored_predictions()) == real_path(folder)
        if own or not self.read_provenance().get("shipped", False):
            return self
        apart = copy.copy(self)
        for name in _SCORES:
            setattr(apart, name, Path(folder) / getattr(self, name).name)
        return apart

    def exists(self) -> bool:
        """Whether the folder holds a run, finished or not."""
        return self.provenance.is_file()

    def checkpoint_files(self) -> list[Path]:
        """The checkpoints of an unfinished training, the last one first."""
        files = (self.last_checkpoint, self.previous_checkpoint)
        return [path for path in files if path.is_file()]

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing the run while a block runs.

        Creates the folder; one that stays empty is removed. Drafts of killed
        processes are removed.

        Raises:
            ResourceError: Another process writes the run, or the folder cannot be
                written to.
        """
        missing = not self.root.exists()
        with output_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        try:
            with locked(self.root / _LOCK, self.root):
                for path in (self.root, self.checkpoints):
                    remove_leftovers(path)
                yield
        finally:
            if missing:
                with suppress(OSError):
                    self.root.rmdir()

    @contextmanager
    def locked_for(self, folder: Path) -> Iterator[None]:
        """Lock the run while a block writes to a folder, if it is in that of the run.

        Args:
            folder: It need not exist.

        Raises:
            ResourceError: As `locked`.
        """
        root, path = real_path(self.root), real_path(folder)
        with self.locked() if path.is_relative_to(root) else nullcontext():
            yield

    def _holds_no_run(self) -> bool:
        """Whether the folder is empty, save for what a killed process left."""
        if self.exists() or not self.root.is_dir():
            return False
        entries = list(self.root.iterdir())
        return (self.root / _STARTING).is_file() or all(
            is_draft(path) or path.name == _LOCK for path in entries
        )

    def own(self) -> list[Path]:
        """The paths at the top of the folder that a run writes."""
        paths = {path for name, path in vars(self).items() if name != "root"}
        return sorted(path for path in paths if path.parent == self.root)

    def require_apart(self, inputs: Iterable[Path]) -> None:
        """Check that replacing the run would not remove its own inputs.

        Args:
            inputs: Files that the new run is made from.

        Raises:
            SpecError: One of `inputs` is among the files that the run replaces.
        """
        own = {real_path(path) for path in self.own()}
        for path in inputs:
            resolved = real_path(path)
            if own & {resolved, *resolved.parents}:
                raise SpecError(
                    f"{path}: is inside the run that --overwrite would remove; move "
                    "it, or name another folder with --run"
                )

    def refuse_if_present(self, *, resume: bool, overwrite: bool) -> None:
        """Check before any work that a run may be written to the folder.

        Args:
            resume: Continue the run in the folder.
            overwrite: Replace the run in the folder.

        A folder in which a process was killed before its run began counts as empty,
        also where it is to be resumed: then the run starts from the beginning.

        Raises:
            SpecError: The folder holds a run and neither flag is given, it holds
                other files, or there is no run to resume.
        """
        require_usable_path(self.root)
        if self._holds_no_run():
            return
        if resume and not self.exists():
            raise SpecError(
                f"{self.root}: no run to resume; omit --resume to start one"
            )
        if self.exists():
            require_free(
                self.root,
                overwrite=resume or overwrite,
                remedy="name another folder with --run",
                resume="continue the run",
            )
        if not self.exists() and self.root.exists():
            if not self.root.is_dir():
                raise SpecError(f"{self.root}: is a file; name a folder with --run")
            raise SpecError(
                f"{self.root}: the folder holds files that are not a run; "
                "name an empty or new folder with --run"
            )

    def create(self, *, overwrite: bool) -> None:
        """Create the folder; with `overwrite`, remove an earlier run in it.

        Files that a run does not write remain. Until `begin` the folder holds no run:
        what a kill leaves in it is removed by the next `create`.

        Raises:
            ResourceError: The folder cannot be created or changed.
        """
        starting = self.root / _STARTING
        with output_errors(self.root):
            replaced = starting.is_file() or (overwrite and self.exists())
            write_bytes(starting, b"")
            # `run.json` goes first: without it nobody takes the rest for a run.
            old = sorted(self.own(), key=lambda path: path != self.provenance)
            for path in old if replaced else ():
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            self.checkpoints.mkdir(parents=True, exist_ok=True)

    def begin(self, content: dict) -> None:
        """Write ``run.json``: with it the folder holds a run.

        Raises:
            ResourceError: It cannot be written.
        """
        write_json(self.provenance, content)
        self.started()

    def started(self) -> None:
        """Note that ``run.json`` describes what lies in the folder."""
        with output_errors(self.root):
            (self.root / _STARTING).unlink(missing_ok=True)

    def require_model(self) -> None:
        """Check that the folder holds a trained run of this version.

        Raises:
            DataError: It is not a run folder, training is not finished, a file is
                missing, or another version wrote it.
        """
        if not self.root.is_dir():
            raise DataError(
                f"{self.root}: no such run folder ({shipped_hint('models')})"
            )
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
                trained = self.checkpoint_files() and path == self.model
                remedy = (
                    "training is not finished; continue with `vl3d-lite train --resume`"
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

    def require_recorded(self, path: Path) -> None:
        """Check that a file of the run is the one that ``run.json`` records.

        Args:
            path: One of `model`, `features`, `calibration` and `domain`. A file of
                which ``run.json`` has no hash is not checked.

        Raises:
            DataError: The file is another one, or not found.
        """
        recorded = self.read_provenance().get("files", {}).get(path.name)
        if recorded is None:
            return
        try:
            found = file_hash(path)
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read ({error.strerror}); restore it from a copy"
            ) from error
        if found != recorded:
            raise DataError(
                f"{path}: is not the file of this run: its SHA-256 is {found[:12]}..., "
                f"{self.provenance.name} records {recorded[:12]}...; restore it from a "
                "copy, or train again"
            )

    def recorded_domain(self) -> Path:
        """The path of ``domain.json``, which is the recorded one if it exists.

        Raises:
            DataError: The file is another one.
        """
        if self.domain.is_file():
            self.require_recorded(self.domain)
        return self.domain

    def read_provenance(self) -> dict:
        """The content of ``run.json``; an empty dict where there is no file.

        Raises:
            DataError: The file is damaged.
        """
        if not self.provenance.is_file():
            return {}
        from vl3d_lite.runs.records import RunRecord  # `--help` needs no pydantic

        record = read_record(self.provenance, RunRecord, "restore it from a copy")
        return record.model_dump(exclude_unset=True)

    def update_provenance(self, **entries) -> None:
        """Add or replace entries of ``run.json``."""
        write_json(self.provenance, {**self.read_provenance(), **entries})
