"""The types of what ``run.json`` holds."""

from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _require_file_name(name: str) -> str:
    if name in ("", ".", "..") or "\\" in name or PurePosixPath(name).name != name:
        raise ValueError("must be the name of a file, without a folder")
    return name


# Files beside a record: a path could lead out of the folder.
FileName = Annotated[str, AfterValidator(_require_file_name)]
Count = Annotated[int, Field(ge=0)]
Corner = tuple[float, float, float]
Extent = tuple[Corner, Corner]
Seconds = Annotated[float, Field(ge=0)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow")  # a later version may add entries


class InputRecord(_Record):
    """A training or validation cloud."""

    path: str
    bytes: Count = 0
    sha256: str
    role: str = ""
    crs: str = ""
    unit: str | None = None
    extent: Extent | None = None


class MemberRecord(_Record):
    """A run that an ensemble averages."""

    run: str
    seed: int | None = None
    model: str | None = None


class RunRecord(_Record):
    """The content of ``run.json``; of a training that has begun, a part of it."""

    vl3d_lite: str = ""
    python: str = ""
    packages: dict[str, str | None] = {}
    backend: str = ""
    machine: dict[str, Any] = {}
    spec: str = ""
    spec_sha256: str | None = None
    network_sha256: str | None = None
    weights_sha256: str | None = None
    seed: int = 0
    inputs: list[InputRecord] = []
    files: dict[FileName, str] = {}
    ensemble: list[MemberRecord] = []
    initial_weights: dict[str, Any] = {}
    evaluated: str = ""
    shipped: bool = False
    parameters: Count | None = None
    peak_memory: Count | None = None
    best_epoch: int | None = None
    threads: Count | None = None
    seconds_of_training: Seconds | None = None
    seconds_of_preparation: Seconds | None = None
