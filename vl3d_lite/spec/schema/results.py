"""Prediction, evaluation and export of a spec."""

from typing import Annotated, Literal

from pydantic import Field

from vl3d_lite.spec.base import Code, Fraction, PositiveFloat, Section


class PredictionSpec(Section):
    """What becomes of the predict clouds."""

    votes: Annotated[int, Field(ge=1, le=64)] = 2
    """Passes over the cloud with shifted centers."""
    grids: Annotated[int, Field(ge=1, le=64)] = 1
    """Times the cloud is reduced to cells, every time with another origin of the
    grid and with `votes` passes; points of one cell are told apart by the others."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Fields of a batch; that of training by default."""
    write: list[
        Literal[
            "prediction", "confidence", "entropy", "probabilities", "classification"
        ]
    ] = Field(["prediction", "confidence"])
    """Dimensions of the output; `classification` overwrites the LAS field."""
    calibrate: bool = True
    """Scale confidences by the temperature fitted on the validation clouds."""
    temperature: PositiveFloat | None = None
    """Temperature in place of the fitted one, such as that of a run that left some
    of its training clouds out and validated on them."""
    min_confidence: Fraction | None = None
    """Confidence below which a point is written as `reject_code`, e.g. 0.6."""
    reject_code: Code | None = None
    """Code of unsure points: 1 (unclassified) by default, or 0 (never classified)
    where 1 is a class."""
    keep_codes: list[Code] = Field([])
    """Codes left untouched where `classification` is written, e.g. 7, 9, 18."""


class EvaluationSpec(Section):
    """Where a report says to look: places where prediction and reference disagree."""

    min_confidence: Fraction = 0.9
    """Confidence from which on a wrong point may be an error of the reference."""
    min_points: Annotated[int, Field(ge=0)] = 20
    """Places of more connected wrong points than this are listed."""
    link_distance: PositiveFloat = 2.0
    """Wrong points so near each other, in grid sizes, are connected."""


class ExportSpec(Section):
    """Kernel representations."""

    kernels: bool = True
    """Export kernel points and weights at initialization and after training."""
    plots: bool = True
    """Draw structure, weights, and what training changed."""
    every: Annotated[int, Field(ge=1)] | None = None
    """Also export every so many epochs."""
