"""The card of a shipped model: what it is for, its scores, and its licence."""

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vl3d_lite.errors import DataError
from vl3d_lite.system import read_text

CARD = "card.yaml"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Score(_Frozen):
    """The scores of a model on one cloud.

    Attributes:
        cloud: What the cloud is, and whether the model was selected on it.
        density: Points/m2.
        accuracy: Overall accuracy.
        mean_iou: Mean IoU of the classes that `Card.mean_over` names.
    """

    cloud: str
    density: float = Field(gt=0)
    accuracy: float = Field(ge=0, le=1)
    mean_iou: float = Field(ge=0, le=1)


class Card(_Frozen):
    """The content of ``card.yaml``.

    Attributes:
        summary: What the model classifies, in one line.
        intended_use: The scans that it is for.
        mean_over: The classes over which IoU is averaged.
        scores: Scores on clouds it was not trained on.
        licence: Terms of the model and of the data it was trained on.
    """

    summary: str
    intended_use: str
    mean_over: list[str] = Field(min_length=1)
    scores: list[Score] = Field(min_length=1)
    licence: str


def read_card(folder: Path) -> Card:
    """The card of the shipped model in a folder.

    Raises:
        DataError: It is missing or damaged.
    """
    path, remedy = folder / CARD, "restore it from a copy, or install the program again"
    text = read_text(path, remedy)
    try:
        return Card.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be used ({reason}); {remedy}") from error
