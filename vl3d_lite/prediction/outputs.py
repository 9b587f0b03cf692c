"""The folder of predicted clouds: which are to do, and the record of each."""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.prediction.origin import Origin
from vl3d_lite.prediction.outcomes import (
    LISTING,
    RECORDS,
    PredictedCloud,
    Records,
    all_recorded,
    assemble,
    read_outcome,
)
from vl3d_lite.prediction.record_files import announce, keep, settle_all
from vl3d_lite.prediction.source_hash import source_hash
from vl3d_lite.runs import Options, Shard
from vl3d_lite.system import (
    claimed,
    output_errors,
    remove_leftovers,
    require_free,
    safe_point,
)

logger = logging.getLogger(__name__)

_MOST_NAMED = 5  # outputs that a message names; the others are counted


class Outputs:
    """The folder that predictions go to, with a record of each.

    A record is written before its output gets its name and holds the hash of it, so
    that after a kill at any moment the next command knows which outputs are whole.
    The list of all records is made once, at the end.

    Args:
        folder: Created by `claimed`.
        sources: Clouds to predict; an output has the name of its source.
        resume: Skip clouds that are already predicted.
        overwrite: Replace earlier outputs; with `resume`, only those that differ
            from what would be written.
        shard: The part of the sources that this process predicts; None for all.

    Attributes:
        targets: The output path of each source of this process.
        outcomes: The record of each predicted cloud, by output name; of a shard
            those of its own clouds.
        remaining: Sources that are not predicted yet; all before `decide`.

    Raises:
        SpecError: Two clouds have the same name, or an output exists and neither
            flag was given.
        DataError: The records cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        sources: Sequence[Path],
        *,
        resume: bool,
        overwrite: bool,
        shard: Shard | None = None,
    ):
        self.folder = folder
        self.resume, self.overwrite, self.shard = resume, overwrite, shard
        # The names of all shards: two of them must not write one output.
        self._names = _output_names(sources)
        part = shard.part(sources) if shard else list(sources)
        self.targets = {source: folder / _output_name(source) for source in part}
        self.remaining = part
        self.outcomes: dict[str, PredictedCloud] = {}
        own = [target.name for target in self.targets.values()] if shard else None
        self.claim: Path | None = None  # the file that claims the outputs
        self._records = Records(folder, own)
        if not overwrite:
            self._read()
        self._refuse()

    @classmethod
    def of_command(
        cls, folder: Path, sources: Sequence[Path], options: Options
    ) -> "Outputs":
        """The outputs that the options of a command ask for: the same arguments."""
        return cls(
            folder,
            sources,
            resume=options.resume,
            overwrite=options.overwrite,
            shard=options.shard,
        )

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Create the folder, and keep other processes from the outputs for a block.

        What killed processes left is cleaned up. When the block ends without an
        error, ``predictions.json`` is made: by a shard, if it is the last one. A
        folder that stays empty is removed.

        Raises:
            ResourceError: Another process writes one of the outputs, or the folder
                or the list cannot be written to.
        """
        records, missing = self.folder / RECORDS, not self.folder.exists()
        with output_errors(self.folder):
            records.mkdir(parents=True, exist_ok=True)
        try:
            names = [target.name for target in self.targets.values()]
            with claimed(records, names, self.folder) as self.claim:
                remove_leftovers(self.folder)
                remove_leftovers(records)
                yield
                if not self.shard or all_recorded(self.folder, self._names):
                    assemble(self.folder)
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
        settle_all(self.folder, [one.name for one in self.targets.values()])
        self._read()
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
        announce(self.folder, outcome)

    def record(self, outcome: PredictedCloud) -> None:
        """Keep the announced record of an output.

        Raises:
            ResourceError: The record cannot be written.
        """
        keep(self.folder, outcome.output)
        self.outcomes[outcome.output] = outcome

    def _read(self) -> None:
        try:
            outcomes = self._records.read()
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
                path.unlink(missing_ok=True)  # another shard may have done it
        (self.folder / LISTING).unlink(missing_ok=True)
        return self._records.read()

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


def _output_names(sources: Sequence[Path]) -> list[str]:
    """The names of all outputs, each once.

    Raises:
        SpecError: Two of them are equal.
    """
    names = Counter(map(_output_name, sources))
    if repeated := sorted(name for name, count in names.items() if count > 1):
        more = len(repeated) - _MOST_NAMED
        named = ", ".join(repeated[:_MOST_NAMED])
        raise SpecError(
            f"several clouds are named {named}{f' and {more} more' * (more > 0)}; "
            "predict them into separate folders with --output"
        )
    return list(names)


def _output_name(source: Path) -> str:
    # The copy of a COPC file is plain LAZ, so its name must not claim otherwise.
    if source.name.lower().endswith(".copc.laz"):
        return source.name[: -len(".copc.laz")] + ".laz"
    return source.name
