"""Verify a run: compare it with its provenance, and repeat its evaluation."""

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vl3d_lite.errors import InterruptedRunError, VL3DError
from vl3d_lite.evaluation import read_metrics
from vl3d_lite.pipeline.evaluate import metrics, predicted_spec, score
from vl3d_lite.pipeline.opening import open_run
from vl3d_lite.pipeline.predict import repeat_predictions
from vl3d_lite.prediction import PredictedCloud, read_outcomes
from vl3d_lite.runs import RunFolder, provenance
from vl3d_lite.system import read_text

_MOST_SCORES = 10  # differing scores that are listed; the others are counted


@dataclass
class Verification:
    """The result of a verification.

    Args:
        equal: What was compared and is unchanged.
        notes: What is not a difference itself, but may explain one.
        differences: What has changed, or cannot be compared.
        absent: Clouds that the run was trained, validated or scored on and that are
            not found, so their hashes are not compared.
    """

    equal: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)

    def compare(self, what: str, before: object, now: object, message: str) -> None:
        """Add two values to `equal`, or the message to `differences`."""
        if before == now:
            self.equal.append(what)
        else:
            self.differences.append(f"{what}: {message}")

    def lines(self) -> Iterator[str]:
        """One line per finding."""
        yield from (f"equal    {text}" for text in self.equal)
        yield from (f"note     {text}" for text in self.notes)
        yield from (f"ABSENT   {text}" for text in self.absent)
        yield from (f"DIFFERS  {text}" for text in self.differences)


def verify(
    run: RunFolder, *, quiet: bool = True, threads: int | None = None
) -> Verification:
    """Compare a run with its provenance, and repeat its evaluation.

    Args:
        run: A trained run.
        quiet: Show no progress bars.
        threads: Processors to use; None for as many as each cloud was predicted with.

    Raises:
        InterruptedRunError: A signal came.
    """
    found = Verification()
    content = run.read_provenance()
    _compare_files(run, content, found)
    _compare_versions(content, found)
    try:
        _repeat(run, content, found, quiet, threads)
    except InterruptedRunError:
        raise
    except VL3DError as error:
        found.differences.append(str(error))
    return found


def _compare_files(run: RunFolder, content: dict, found: Verification) -> None:
    spec = provenance.text_hash(read_text(run.spec, "restore it from a copy"))
    found.compare(run.spec.name, content.get("spec_sha256"), spec, "has changed")
    files = content.get("files", {})
    if run.model.name not in files:
        found.differences.append(
            f"{run.model.name}: run.json has no hash of it, because an earlier version "
            "wrote it; train again"
        )
    for name, digest in files.items():
        _compare_file(name, run.root / name, digest, found)
    for entry in content.get("inputs", []):
        path = Path(entry["path"])
        if path.is_file():
            _compare_file(entry["path"], path, entry["sha256"], found)
        else:
            found.absent.append(entry["path"])


def _compare_file(name: str, path: Path, digest: str, found: Verification) -> bool:
    """Compare a file with its hash; return whether the file exists."""
    if not path.is_file():
        found.differences.append(f"{name}: is missing")
        return False
    found.compare(name, digest, provenance.file_hash(path), "has changed")
    return True


def incomplete(run: RunFolder, found: Verification) -> str:
    """The message where nothing has changed, but clouds are not found."""
    bare = all(Path(name).name == name for name in found.absent)
    remedy = (
        "change to the folder that holds them, because the run names them without a "
        "folder, and verify from there"
        if bare
        else "put them where the run names them and verify again"
    )
    return (
        f"{run.root}: no file that was found has changed, but {len(found.absent)} of "
        "the clouds that the run was trained, validated or scored on are not found, so "
        "they are not compared; `predict` does not need them. To compare them, "
        f"{remedy}"
    )


def _compare_versions(content: dict, found: Verification) -> None:
    now = provenance.environment()
    for part in ("vl3d_lite", "python", "backend"):
        if content.get(part) != now[part]:
            found.notes.append(f"{part} was {content.get(part)}, is {now[part]}")
    machine = content.get("machine", {})
    for part in sorted(machine.keys() & now["machine"].keys()):
        was, is_ = machine[part], now["machine"][part]
        if was != is_:
            found.notes.append(f"the machine's {part} was {was}, is {is_}")
    before = content.get("packages", {})
    for name in sorted(before.keys() | now["packages"].keys()):
        was, is_ = before.get(name), now["packages"].get(name)
        if was != is_:
            found.notes.append(f"{name} was {was or 'absent'}, is {is_ or 'absent'}")


def _repeat(
    run: RunFolder,
    content: dict,
    found: Verification,
    quiet: bool,
    threads: int | None,
) -> None:
    folder = run.scored_predictions()
    outcomes = read_outcomes(folder)
    if not outcomes:
        if run.metrics.is_file():
            found.differences.append(f"{folder}: the scored predictions are not found")
        else:
            found.notes.append("there is no evaluation to repeat")
        return
    shipped = content.get("shipped", False)
    present = [_is_present(folder, outcome, shipped, found) for outcome in outcomes]
    if not all(present):
        findings = found.notes if shipped else found.differences
        findings.append("the evaluation cannot be repeated")
        return
    before_threads = {outcome.threads for outcome in outcomes}
    if threads and before_threads != {threads}:
        counts = ", ".join(map(str, sorted(before_threads)))
        found.notes.append(
            f"threads were {counts}, are {threads}; last digits may differ by that"
        )
    with tempfile.TemporaryDirectory(prefix="vl3d_lite_verify_") as scratch:
        again = Path(scratch)
        repeated = repeat_predictions(run, outcomes, again, quiet, threads)
        for before, now in zip(outcomes, repeated, strict=True):
            found.compare(
                f"{before.output}, predicted again",
                before.sha256,
                now.sha256,
                "the prediction has changed",
            )
        _compare_scores(run, again, repeated, found)


def _is_present(
    folder: Path, outcome: PredictedCloud, shipped: bool, found: Verification
) -> bool:
    if not outcome.settings:
        found.differences.append(
            f"{outcome.output}: predictions.json has no settings of it, because an "
            "earlier version wrote it; predict again with --overwrite"
        )
        return False
    source = outcome.source
    if shipped and not Path(source).is_file():
        if source not in found.absent:  # a validation cloud may also be a scored one
            found.absent.append(source)
        return False
    output = folder / outcome.output
    if not shipped or output.is_file():
        _compare_file(str(output), output, outcome.sha256, found)
    return _compare_file(source, Path(source), outcome.source_sha256, found)


def _compare_scores(
    run: RunFolder, folder: Path, outcomes: list[PredictedCloud], found: Verification
) -> None:
    spec = predicted_spec(open_run(run)[0], folder, outcomes)
    if not all(outcome.column for outcome in outcomes):
        found.notes.append("the predictions have no classes to score")
        return
    result, disagreements = score(spec, folder, outcomes)
    now = None
    if result is not None:
        now = json.loads(json.dumps(metrics(result, disagreements, spec)))
    before = None
    if run.metrics.is_file():
        before = read_metrics(run.metrics)
        # They follow from run.json, which is compared by itself.
        before.pop("caveats", None)
    elif now is not None:
        if "evaluated" in run.read_provenance():
            found.differences.append(f"{run.metrics.name}: is missing")
        else:
            found.notes.append("the predictions were not scored")
        return
    if before == now:
        found.equal.append("scores of the repeated evaluation")
        return
    changes = list(_changes(before, now, ""))
    for text in changes[:_MOST_SCORES]:
        found.differences.append(f"{run.metrics.name}: {text}")
    if len(changes) > _MOST_SCORES:
        rest = len(changes) - _MOST_SCORES
        found.differences.append(f"{run.metrics.name}: {rest} more values")


def _changes(before: object, now: object, name: str) -> Iterator[str]:
    """One line per difference between the contents of two JSON files."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            inner = f"{name}.{key}".removeprefix(".")
            yield from _changes(before.get(key), now.get(key), inner)
    elif before != now:
        yield f"{name or 'the content'} was {_short(before)}, is {_short(now)}"


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
