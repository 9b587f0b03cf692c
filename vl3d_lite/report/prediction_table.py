"""What predicted clouds hold, as a table for the end of `predict`."""

from collections.abc import Sequence
from pathlib import Path

from vl3d_lite.prediction import REJECTED, PredictedCloud
from vl3d_lite.report.color_files import CLOUDCOMPARE, QGIS
from vl3d_lite.report.text import percent, sections, table

__all__ = ["prediction_text"]


def prediction_text(folder: Path, outcomes: Sequence[PredictedCloud]) -> str:
    """A line per cloud, then a table: points, share and mean confidence by class.

    Args:
        folder: Folder of the predicted clouds; its style files are named.
        outcomes: The records of the clouds. Those of versions that did not count
            classes are left out, and a line states it.
    """
    counted = [outcome for outcome in outcomes if outcome.classes]
    totals: dict[tuple[str, int], list[float]] = {}
    for outcome in counted:
        for name, found in outcome.classes.items():
            total = totals.setdefault((name, found.code), [0, 0.0])
            total[0] += found.points
            total[1] += found.points * found.mean_confidence
    points = sum(int(count) for count, _ in totals.values())
    rows = [["class", "code", "points", "share", "mean confidence"]]
    for (name, code), (count, confidence) in sorted(
        totals.items(), key=lambda item: item[0][0] == REJECTED
    ):
        mean = f"{confidence / count:.3f}" if count else ""
        share = percent(count / points) if points else ""
        rows.append([name, str(code), f"{int(count):,}", share, mean])
    parts = ["\n".join(_line(folder, outcome) for outcome in outcomes)]
    parts += [table(rows)] if totals else []
    if lines := _notes(folder, outcomes, len(outcomes) - len(counted)):
        parts.append("\n".join(lines))
    return sections(*parts)


def _line(folder: Path, outcome: PredictedCloud) -> str:
    return (
        f"{folder / outcome.output}: {outcome.voted:,} points predicted directly, "
        f"{outcome.nearest:,} filled from the nearest predicted cell"
    )


def _notes(
    folder: Path, outcomes: Sequence[PredictedCloud], uncounted: int
) -> list[str]:
    lines = []
    if uncounted:
        lines.append(f"{uncounted} clouds, predicted by another version, not counted")
    if kept := sorted({code for outcome in outcomes for code in outcome.kept_codes}):
        codes = ", ".join(map(str, kept))
        lines.append(f"points of codes {codes} keep their code in the files")
    for name, program in ((QGIS, "QGIS"), (CLOUDCOMPARE, "CloudCompare")):
        if (folder / name).is_file():
            lines.append(f"colors for {program}  {folder / name}")
    return lines
