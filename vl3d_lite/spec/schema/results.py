"""Prediction, evaluation and export of a spec."""

from typing import Annotated, Literal

from pydantic import Field

from vl3d_lite.spec.base import Code, Fraction, PositiveFloat, Section


class PredictionSpec(Section):
    """Prediction settings."""

    votes: Annotated[int, Field(ge=1, le=64)] = 2
    """Number of passes over a cloud, each with shifted field centers, whose
    probabilities are averaged."""
    grids: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of grid subsamplings of a cloud, each with another grid origin and
    `votes` passes. Points that share a cell in one grid are separated by others."""
    batch_size: Annotated[int, Field(ge=1)] | None = None
    """Fields per batch; by default `training.batch_size`."""
    write: list[
        Literal[
            "prediction", "confidence", "entropy", "probabilities", "classification"
        ]
    ] = Field(default=["prediction", "confidence"])
    """Dimensions of the output; `classification` overwrites the LAS dimension."""
    calibrate: bool = True
    """Calibrate probabilities with the temperature fitted on the validation clouds."""
    temperature: PositiveFloat | None = None
    """Calibration temperature in place of the fitted one, such as that of a run that
    held out some of the training clouds for validation."""
    min_confidence: Fraction | None = None
    """Confidence below which a point is rejected, e.g. 0.6; its output code is
    `reject_code`."""
    reject_code: Code | None = None
    """LAS code of rejected points; by default 1 (unclassified), or 0 (never
    classified) if 1 is the code of a class."""
    keep_codes: list[Code] = Field(default=[])
    """LAS codes of the input that `classification` preserves, e.g. 7, 9, 18."""


class EvaluationSpec(Section):
    """Evaluation settings: disagreements of prediction and reference in the report."""

    min_confidence: Fraction = 0.9
    """Confidence from which on a disagreement counts as confident, which suggests an
    error of the reference."""
    min_points: Annotated[int, Field(ge=0)] = 20
    """Disagreements of more than this number of connected points are listed."""
    link_distance: PositiveFloat = 2.0
    """Largest distance, in grid sizes, between connected points of a disagreement."""


class ExportSpec(Section):
    """Export of the convolution kernels."""

    kernels: bool = True
    """Export kernel points and weights at initialization and after training."""
    plots: bool = True
    """Plot the structure, the weights, and their change in training."""
    every: Annotated[int, Field(ge=1)] | None = None
    """Also export at this interval of epochs."""
