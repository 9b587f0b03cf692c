"""The folder of predicted clouds: which are to do, and the record of each."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.prediction.origin import Origin
from vl3d_lite.prediction.outcomes import (
    LISTING,
    RECORDS,
    PredictedCloud,
    read_listing,
    read_outcome,
    read_outcomes,
    record_path,
)
from vl3d_lite.prediction.source_hash import source_hash
from vl3d_lite.system import (
    claimed,
    exclusive,
    file_hash,
    output_errors,
    remove_leftovers,
    require_free,
    safe_point,
    write_json,
)

logger = logging.getLogger(__name__)

_ANNOUNCED = ".new"  # suffix of the record of an output that gets its name next
_MOST_NAMED = 5  # outputs that a message names; the others are counted


class Outputs:
    """The folder that predictions go to, with a record of each.

    A record is written before its output gets its name and holds the hash of it, so
    that after a kill at any moment the next command knows which outputs are whole.

    Args:
        folder: Created by `claimed`.
        sources: Clouds to predict; an output has the name of its source.
        resume: Skip clouds that are already predicted.
        overwrite: Replace earlier outputs; with `resume`, only those that differ
            from what would be written.

    Attributes:
        targets: The output path of each source.
        outcomes: The record of each predicted cloud, by output name.
        remaining: Sources that are not predicted yet; all before `decide`.

    Raises:
        SpecError: Two clouds have the same name, or an output exists and neither
            flag was given.
        DataError: The records cannot be read.
    """

    def __init__(
        self, folder: Path, sources: Sequence[Path], *, resume: bool, overwrite: bool
    ):
        self.folder = folder
        self.resume, self.overwrite = resume, overwrite
        self.targets = {source: folder / _output_name(source) for source in sources}
        self.remaining = list(sources)
        self.outcomes: dict[str, PredictedCloud] = {}
        if not overwrite:
            self._read()
        self._refuse()

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Create the folder, and keep other processes from the outputs for a block.

        What killed processes left is cleaned up. A folder that stays empty is
        removed.

        Raises:
            ResourceError: Another process writes one of the outputs, or the folder
                cannot be written to.
        """
        records, missing = self.folder / RECORDS, not self.folder.exists()
        with output_errors(self.folder):
            records.mkdir(parents=True, exist_ok=True)
        try:
            names = [target.name for target in self.targets.values()]
            with claimed(records, names, self.folder):
                remove_leftovers(self.folder)
                remove_leftovers(records)
                yield
        finally:
            with suppress(OSError):
                records.rmdir()
                if missing:
                    self.folder.rmdir()

    def decide(self, origin: Origin) -> None:
        """Decide which clouds are to do, before the work begins.

        An output is done if its file, its source, and what it was predicted with are
        those of its record.

        Args:
            origin: What the clouds are to be predicted with.

        Raises:
            SpecError: An output exists and must not be replaced. The message names
                the outputs that differ, and how.
            DataError: A source cannot be read.
        """
        self._settle()
        self._refuse()
        self.remaining, changed = [], []
        for source, target in self.targets.items():
            safe_point("interrupted before the prediction began; nothing was written")
            if not target.exists() or (self.overwrite and not self.resume):
                self.remaining.append(source)
            elif found := list(self._differences(source, target, origin)):
                self.remaining.append(source)
                changed.append(f"{target.name}: {'; '.join(found)}")
            else:
                logger.info("%s: the cloud is already predicted", source)
        if changed and not self.overwrite:
            raise SpecError(self._changed_text(changed))

    def announce(self, outcome: PredictedCloud) -> None:
        """Write the record of an output that is complete and gets its name next.

        Raises:
            ResourceError: The record cannot be written.
        """
        write_json(self._announced(outcome.output), asdict(outcome))

    def record(self, outcome: PredictedCloud) -> None:
        """Keep the announced record of an output, and list it.

        Raises:
            ResourceError: Record or list cannot be written.
        """
        path = record_path(self.folder, outcome.output)
        self.outcomes[outcome.output] = outcome
        with output_errors(path):
            self._announced(outcome.output).replace(path)
            with exclusive(path.parent):
                self._list({**read_listing(self.folder), outcome.output: outcome})

    def _announced(self, output: str) -> Path:
        return record_path(self.folder, output).with_suffix(_ANNOUNCED)

    def _settle(self) -> None:
        """Keep the records that a killed process announced, where the output is there.

        The others are removed: their outputs never got their names.
        """
        with output_errors(self.folder):
            for target in self.targets.values():
                announced = self._announced(target.name)
                with suppress(FileNotFoundError, DataError):
                    record = read_outcome(announced)
                    if file_hash(target) == record.sha256:
                        announced.replace(record_path(self.folder, target.name))
                        continue
                announced.unlink(missing_ok=True)
            with exclusive(self.folder / RECORDS):
                self._read()
                if self.outcomes != read_listing(self.folder):
                    self._list(self.outcomes)

    def _list(self, outcomes: dict[str, PredictedCloud]) -> None:
        clouds = [asdict(item) for item in outcomes.values()]
        write_json(self.folder / LISTING, {"clouds": clouds})

    def _read(self) -> None:
        try:
            outcomes = read_outcomes(self.folder)
        except DataError as error:
            if not self.overwrite:
                raise
            logger.warning("%s. A new list is started", error)
            outcomes = self._readable()
        self.outcomes = {item.output: item for item in outcomes}

    def _readable(self) -> list[PredictedCloud]:
        """Remove the list and records that are damaged; return the other records."""
        for path in (self.folder / RECORDS).glob("*.json"):
            try:
                read_outcome(path)
            except DataError:
                path.unlink()
        (self.folder / LISTING).unlink(missing_ok=True)
        return read_outcomes(self.folder)

    def _differences(self, source: Path, target: Path, origin: Origin) -> Iterator[str]:
        record = self.outcomes.get(target.name)
        if record is None:
            yield f"{LISTING} does not list it, so nobody knows how it was predicted"
            return
        yield from origin.differences(record)
        if source_hash(source) != record.source_sha256:
            yield f"its source {source} has changed"
        if source_hash(target) != record.sha256:
            yield "the file itself was changed after the prediction"

    def _changed_text(self, changed: list[str]) -> str:
        lines = [f"  {text}" for text in changed[:_MOST_NAMED]]
        if len(changed) > _MOST_NAMED:
            lines.append(f"  and {len(changed) - _MOST_NAMED} more")
        return (
            f"{self.folder}: {len(changed)} of {len(self.targets)} outputs are not "
            "what would be written now, so --resume cannot keep them; replace these "
            "with `predict --resume --overwrite`, or name another --output\n"
            + "\n".join(lines)
        )

    def _refuse(self) -> None:
        names = [target.name for target in self.targets.values()]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise SpecError(
                f"several clouds are named {', '.join(sorted(repeated))}; predict them "
                "into separate folders with --output"
            )
        for source, target in self.targets.items():
            if target.exists() and target.resolve() == source.resolve():
                raise SpecError(
                    f"{source}: would be overwritten by its own prediction; name "
                    "another folder with --output"
                )
        for target in self.targets.values():
            require_free(
                target,
                overwrite=self.resume or self.overwrite,
                remedy="name another folder with --output",
                resume="skip finished clouds",
            )


def _output_name(source: Path) -> str:
    # The copy of a COPC file is plain LAZ, so its name must not claim otherwise.
    if source.name.lower().endswith(".copc.laz"):
        return source.name[: -len(".copc.laz")] + ".laz"
    return source.name
