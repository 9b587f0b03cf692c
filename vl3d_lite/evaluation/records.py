"""The types of what ``metrics.json`` holds."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from vl3d_lite.system import read_record

Score = int | float | None
Count = Annotated[int, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow")  # a later version may add entries


class CalibrationScores(_Record):
    """The calibration of some points."""

    expected_error: Score = None


class PooledScores(_Record):
    """The scores of all clouds together."""

    points: Count = 0
    overall_accuracy: Score = None
    mean_accuracy: Score = None
    mean_iou: Score = None
    mcc: Score = None
    kappa: Score = None
    macro: dict[str, Score] = {}
    per_class: dict[str, dict[str, Score]]
    calibration: CalibrationScores | None = None


class MetricsRecord(_Record):
    """The content of ``metrics.json``."""

    pooled: PooledScores
    clouds: dict[str, Any] = {}


def read_metrics(path: Path) -> dict:
    """Read ``metrics.json``.

    Raises:
        DataError: The file is damaged.
    """
    remedy = "run `vl3d-lite evaluate` again"
    return read_record(path, MetricsRecord, remedy).model_dump(exclude_unset=True)
