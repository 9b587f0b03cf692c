"""The types of what ``calibration.json`` holds."""

from typing import Annotated

from pydantic import BaseModel, Field

BINS = 15  # the usual number for the expected calibration error (Guo et al. 2017)

_Count = Annotated[int, Field(ge=0, le=10**15)]
_Total = Annotated[float, Field(ge=0, le=1e15)]


class ReliabilityRecord(BaseModel):
    """Reliability counts as files hold them, see `ReliabilityCounts`."""

    count: Annotated[list[_Count], Field(min_length=BINS, max_length=BINS)]
    correct: Annotated[list[_Count], Field(min_length=BINS, max_length=BINS)]
    total: Annotated[list[_Total], Field(min_length=BINS, max_length=BINS)]


class PlaceRecord(BaseModel, frozen=True):
    """How a temperature carries over to one of several validation clouds.

    Attributes:
        name: The name of the cloud.
        temperature_without: The temperature fitted on the other clouds.
        error_without: Expected calibration error on this cloud with that temperature.
        error: The same with the temperature that was chosen.
    """

    name: str
    temperature_without: Annotated[float, Field(gt=1e-3, lt=1e3)]
    error_without: Annotated[float, Field(ge=0, le=1)]
    error: Annotated[float, Field(ge=0, le=1)]


class CalibrationRecord(BaseModel):
    """The content of ``calibration.json``."""

    temperature: Annotated[float, Field(gt=1e-3, lt=1e3)]
    before: ReliabilityRecord
    after: ReliabilityRecord
    places: list[PlaceRecord] = []
