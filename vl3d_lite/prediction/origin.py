"""What a prediction was made with, and whether another one would be the same."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from pydantic import ValidationError

from vl3d_lite.clouds import Signature
from vl3d_lite.prediction.outcomes import PredictedCloud
from vl3d_lite.spec import PredictionSpec
from vl3d_lite.system import __version__

_RECORD = ("vl3d_lite", 1)  # user id and record id of the variable length record
_SHOWN = 12  # characters of a hash in messages


@dataclass(frozen=True)
class Origin:
    """The model, the version and the settings of a prediction.

    Attributes:
        model: Name of the model; for people, since two models may share it.
        weights_sha256: SHA-256 of its weights.
        network_sha256: SHA-256 of the sections of its spec that the network depends
            on.
        features_sha256: SHA-256 of its feature scaling.
        settings: The `prediction` section of its spec.
        class_groups: The groups its classes are merged into; empty for none.
        temperature: The calibration temperature.
        version: Version of vl3d_lite.
        unit: `clouds.unit` of its spec.
    """

    model: str
    weights_sha256: str
    network_sha256: str
    features_sha256: str
    settings: dict
    class_groups: str
    temperature: float
    version: str = __version__
    unit: str | None = None

    @classmethod
    def of(cls, record: PredictedCloud) -> "Origin | None":
        """The origin that a record names; None where an earlier version wrote it."""
        if not record.weights_sha256:
            return None
        return cls(**{one.name: getattr(record, one.name) for one in fields(cls)})

    def facts(self) -> dict:
        """The entries that name the model and the version in a record."""
        names = ("model", "weights_sha256", "network_sha256", "features_sha256")
        return {name: getattr(self, name) for name in (*names, "version")}

    def signature(self, source_sha256: str) -> Signature:
        """The description stored in an output: the same bytes wherever it is made."""
        content = {**asdict(self), "source_sha256": source_sha256}
        return Signature(
            software=f"vl3d_lite {self.version} {self.model}",
            key=_RECORD,
            data=json.dumps(content, sort_keys=True).encode(),
            description="how it was predicted (JSON)",
        )

    def differences(self, record: PredictedCloud) -> Iterator[str]:
        """How a record differs from what a prediction of today would have.

        Yields:
            One phrase for each difference; the source is not compared.
        """
        if not record.weights_sha256:
            yield "an earlier version of vl3d_lite wrote it without naming the model"
            return
        yield from self.other_model(record)
        if record.version != self.version:
            yield f"version {record.version}, now {self.version}"
        if record.class_groups != self.class_groups:
            was, now = record.class_groups or "none", self.class_groups or "none"
            yield f"--classes {was}, now {now}"
        if record.temperature != self.temperature:
            yield f"temperature {record.temperature:g}, now {self.temperature:g}"
        if record.unit != self.unit:
            yield f"`clouds.unit` {record.unit or 'none'}, now {self.unit or 'none'}"
        yield from self._changed_settings(record)

    def other_model(self, record: PredictedCloud) -> Iterator[str]:
        """How the model of a record that names one differs from this model."""
        if record.weights_sha256 != self.weights_sha256:
            was, now = record.weights_sha256[:_SHOWN], self.weights_sha256[:_SHOWN]
            yield f"model `{record.model}` ({was}), now `{self.model}` ({now})"
        elif record.network_sha256 != self.network_sha256:
            yield "the spec of the model is another one"
        elif record.features_sha256 != self.features_sha256:
            yield "features.json of the model is another one"

    def _changed_settings(self, record: PredictedCloud) -> Iterator[str]:
        now = PredictionSpec(**self.settings).model_dump()
        try:
            before = PredictionSpec(**record.settings).model_dump()
        except ValidationError:
            yield "settings that this version does not have"
            return
        for name, value in now.items():
            # They act through the temperature, which is compared itself.
            if name not in ("calibrate", "temperature") and before[name] != value:
                yield f"`prediction.{name}` {before[name]}, now {value}"


def described(record: PredictedCloud) -> str:
    """What a cloud was predicted with, in one line for people."""
    settings = (f"{name} {value}" for name, value in record.settings.items())
    parts = (
        f"model {record.model or 'unknown'}",
        f"weights {record.weights_sha256[:_SHOWN] or 'unknown'}",
        f"vl3d_lite {record.version or 'unknown'}",
        f"temperature {record.temperature:g}",
        f"classes {record.class_groups}" if record.class_groups else "",
        *settings,
    )
    return ", ".join(filter(None, parts))
