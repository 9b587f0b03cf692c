"""Comparison of two folders of predictions: where two models differ on a scan."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.clouds import PointCloud, read_las
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.evaluation import match_clouds
from vl3d_lite.prediction import PredictedCloud, described, read_outcomes
from vl3d_lite.report.comparison import Comparison, Row, compare, names_of
from vl3d_lite.report.text import percent
from vl3d_lite.report.top_view import Picture, TopView, draw_differences
from vl3d_lite.runs import RunFolder
from vl3d_lite.system import safe_point

__all__ = ["compare_folders"]

_MOST_PICTURES = 20  # about 100 kB each on the page
_CODE_BITS = 16  # codes are uint16


@dataclass(frozen=True)
class _Scan:
    """How two predictions of one scan differ.

    Attributes:
        name: Name of the first output.
        points: Points that were compared.
        unpaired: Points that share their coordinates in files of another order.
        pairs: Points by their two classes, where these differ.
        picture: Where they differ, from above.
    """

    name: str
    points: int
    unpaired: int
    pairs: Counter[tuple[str, str]]
    picture: Picture

    @property
    def differing(self) -> int:
        """Points whose classes differ."""
        return sum(self.pairs.values())


def compare_folders(paths: Sequence[Path]) -> Comparison:
    """Compare runs, or two folders of predictions of the same scans.

    Args:
        paths: Run folders, or two folders that `predict` wrote.

    Raises:
        SpecError: The number of folders does not fit.
        DataError: A folder is neither, or two folders have no scan in common.
    """
    predictions = [path for path in paths if _holds_predictions(path)]
    if not predictions:
        return compare(paths)
    if len(predictions) < len(paths):
        others = ", ".join(str(path) for path in paths if path not in predictions)
        raise SpecError(
            f"{others}: holds no predictions.json, as the other folders do; compare "
            "runs with runs, and predictions with predictions"
        )
    if len(paths) != 2:
        raise SpecError(
            "`compare` requires two folders of predictions. Received: "
            f"{len(paths)}; compare them two by two"
        )
    return _compare(paths)


def _holds_predictions(path: Path) -> bool:
    return not RunFolder(path).exists() and (path / "predictions.json").is_file()


def _compare(folders: Sequence[Path]) -> Comparison:
    by_hash = [
        {one.source_sha256: one for one in read_outcomes(path) if one.source_sha256}
        for path in folders
    ]
    common = [digest for digest in by_hash[0] if digest in by_hash[1]]
    if not common:
        raise DataError(
            f"{folders[0]} and {folders[1]}: have no scan in common, by the SHA-256 of "
            "the sources; predict the same files with both models"
        )
    names = names_of(folders)
    records = [[found[digest] for digest in common] for found in by_hash]
    scans = [
        _compare_scan(folders, pair, names)
        for pair in zip(records[0], records[1], strict=True)
    ]
    scans.sort(key=lambda scan: -scan.differing)
    alone = [len(found) - len(common) for found in by_hash]
    return Comparison(
        tuple(names),
        tuple(_notes(names, records, scans, alone)),
        dict(_tables(scans)),
        columns=("points", "share"),
        pictures=tuple(scan.picture for scan in scans[:_MOST_PICTURES]),
    )


def _compare_scan(
    folders: Sequence[Path], pair: Sequence[PredictedCloud], names: Sequence[str]
) -> _Scan:
    safe_point("interrupted; nothing was written")
    paths = [folder / one.output for folder, one in zip(folders, pair, strict=True)]
    clouds = [_read(path, one) for path, one in zip(paths, pair, strict=True)]
    rows = _rows(paths, clouds)
    paired = rows >= 0
    first, second = (
        cloud.attributes[one.column].astype(np.int64)
        for cloud, one in zip(clouds, pair, strict=True)
    )
    keys = (first << _CODE_BITS) + second[np.maximum(rows, 0)]
    total: Counter[tuple[str, str]] = Counter()
    different = []
    for key, count in zip(*np.unique(keys[paired], return_counts=True), strict=True):
        a, b = int(key) >> _CODE_BITS, int(key) & ((1 << _CODE_BITS) - 1)
        classes = _class_name(pair[0], a), _class_name(pair[1], b)
        # Two models may write one class as two codes, or name one code in two ways.
        if a != b and classes[0] != classes[1]:
            total[classes] += int(count)
            different.append(key)
    return _Scan(
        pair[0].output,
        int(np.count_nonzero(paired)),
        int(np.count_nonzero(~paired)),
        total,
        draw_differences(
            TopView.of(clouds[0].local),
            np.isin(keys, different) & paired,
            f"{pair[0].output}: where {names[0]} and {names[1]} differ",
        ),
    )


def _read(path: Path, record: PredictedCloud) -> PointCloud:
    if not path.is_file():
        raise DataError(f"{path}: not found; predict again with --overwrite")
    if not record.column:
        raise DataError(
            f"{path}: has no dimension of classes; predict again with `prediction` in "
            "`prediction.write`"
        )
    return read_las(path, dimensions=[record.column], unit=record.unit)


def _rows(paths: Sequence[Path], clouds: Sequence[PointCloud]) -> np.ndarray:
    """``(n,)`` int row in the second cloud of each point of the first; -1 if unsure."""
    rows = match_clouds(paths, clouds)
    if rows is None:
        raise DataError(
            f"{paths[0]} and {paths[1]}: do not hold the same points, though they were "
            "predicted from one scan; predict again with --overwrite"
        )
    return rows


def _class_name(record: PredictedCloud, code: int) -> str:
    """The class of a code by the record, or the code where it is of no class."""
    for name, total in record.classes.items():
        if total.code == code:
            return name
    return f"code {code}"


def _tables(scans: Sequence[_Scan]) -> Iterator[tuple[str, tuple[Row, ...]]]:
    points = sum(scan.points for scan in scans)
    total: Counter[tuple[str, str]] = Counter()
    for scan in scans:
        total.update(scan.pairs)
    rows = [_row(scan.name, scan.differing, scan.points) for scan in scans]
    if len(scans) > 1:
        rows.append(_row("all scans", sum(total.values()), points))
    yield "Points of different classes", tuple(rows)
    pairs = [_row(" / ".join(one), count, points) for one, count in total.most_common()]
    if pairs:
        yield "By class in the first / in the second folder", tuple(pairs)


def _row(name: str, count: int, points: int) -> Row:
    return Row(name, (f"{count:,}", percent(count / max(points, 1))))


def _notes(
    names: Sequence[str],
    records: Sequence[Sequence[PredictedCloud]],
    scans: Sequence[_Scan],
    alone: Sequence[int],
) -> Iterator[str]:
    for name, found, left_out in zip(names, records, alone, strict=True):
        made_with = dict.fromkeys(described(one) for one in found)
        yield f"{name}: predicted with {'; '.join(made_with)}."
        if left_out:
            yield f"{name}: {left_out} scans are not in the other folder."
    if unpaired := sum(scan.unpaired for scan in scans):
        yield (
            f"{unpaired:,} points share their coordinates with others in files of "
            "another order, and are not compared."
        )
    if len(scans) > _MOST_PICTURES:
        yield f"The page shows the {_MOST_PICTURES} scans that differ most."
