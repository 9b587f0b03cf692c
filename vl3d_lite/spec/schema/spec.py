"""The whole spec: its sections and the constraints between them."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from vl3d_lite.spec.base import KeyPath, Section, Violation
from vl3d_lite.spec.schema.cache import CacheSpec
from vl3d_lite.spec.schema.clouds import (
    ClassSpec,
    CloudsSpec,
    ExcludedPointsSpec,
    FeatureSpec,
    FieldsSpec,
    Flag,
    feature_columns,
)
from vl3d_lite.spec.schema.labels import CloudGroupSpec, LabelsSpec, code_violations
from vl3d_lite.spec.schema.network import ModelSpec
from vl3d_lite.spec.schema.results import EvaluationSpec, ExportSpec, PredictionSpec
from vl3d_lite.spec.schema.training import TrainingSpec
from vl3d_lite.spec.suggestions import did_you_mean
from vl3d_lite.system import is_printable

CLOUD_GROUPS = ("train", "validation", "predict")
LONGEST_DIMENSION = 32  # ASCII characters of an extra dimension in LAS
# Dimensions whose values change when the cloud rotates about the vertical axis.
DIRECTED = tuple(
    name
    for axis in "xyXY"
    for name in (axis, f"normal_{axis}", f"Normal{axis}", f"n{axis}", f"{axis}_t")
)


class Spec(Section):
    """All settings of a run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of all random number generators."""
    classes: dict[str, ClassSpec] = Field(min_length=2)
    """Class name and its LAS code, list of codes, or {codes, output_code}. Codes
    without a class are ignored in the loss and in scores."""
    clouds: CloudsSpec = CloudsSpec()
    labels: LabelsSpec = LabelsSpec()
    ignored_flags: list[Flag] = Field(default=[])
    """LAS flags whose points are ignored in the loss and in scores, regardless of
    their code, e.g. [overlap]. These points are predicted like all others; points of
    `excluded_points` are not seen by the network at all."""
    excluded_points: ExcludedPointsSpec = ExcludedPointsSpec()
    features: list[FeatureSpec] = Field(min_length=1)
    """Input features of the network, in addition to the neighbors' coordinates."""
    fields: FieldsSpec
    model: ModelSpec
    training: TrainingSpec = TrainingSpec()
    prediction: PredictionSpec = PredictionSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    export: ExportSpec = ExportSpec()
    cache: CacheSpec = CacheSpec()

    def violations(self) -> list[Iterator[Violation]]:
        return [
            self._class_violations(),
            self._class_name_violations(),
            self._label_violations(),
            *map(self._group_violations, CLOUD_GROUPS),
            self._feature_violations(),
            self._class_weight_violations(),
            self._symmetry_violations(),
            self._reject_code_violations(),
        ]

    def _symmetry_violations(self) -> Iterator[Violation]:
        if self.model.symmetry == "none":
            return
        for number, feature in enumerate(self.features):
            if feature.name in DIRECTED:
                yield Violation(
                    f"`{feature.name}` depends on the orientation of a cloud, which "
                    f"breaks `model.symmetry: {self.model.symmetry}`; remove the "
                    "feature or the symmetry",
                    (("features", number),),
                )

    def _feature_violations(self) -> Iterator[Violation]:
        columns = []
        for number, feature in enumerate(self.features):
            for column in feature_columns([feature]):
                if column in columns:
                    yield Violation(
                        f"the feature `{column}` is listed twice",
                        (("features", number),),
                    )
                columns.append(column)

    def _class_weight_violations(self) -> Iterator[Violation]:
        weights = self.training.class_weights
        if isinstance(weights, dict):
            yield from self._weight_violations(weights)
        if isinstance(weights, list) and len(weights) != len(self.classes):
            yield Violation(
                f"must have one entry for each of the {len(self.classes)} classes. "
                f"Received: {len(weights)}",
                (("training", "class_weights"),),
            )
        if isinstance(weights, list) and not any(weights):
            yield Violation(
                f"must not all be 0, since the loss would be 0. Received: {weights}",
                (("training", "class_weights"),),
            )

    def _weight_violations(self, weights: dict[str, float]) -> Iterator[Violation]:
        for name in weights:
            if name not in self.classes:
                hint = did_you_mean(name, self.class_names, otherwise=".")
                yield Violation(
                    f"the spec has no class `{name}`{hint} "
                    f"It has: {', '.join(self.class_names)}",
                    (("training", "class_weights", name),),
                )
        if not any(weights.get(name, 1) for name in self.classes):
            yield Violation(
                "must not all be 0, since the loss would be 0",
                (("training", "class_weights"),),
            )

    def _reject_code_violations(self) -> Iterator[Violation]:
        wanted = self.prediction.reject_code
        for name, entry in self.classes.items():
            if wanted is not None and wanted in (*entry.codes, entry.code):
                yield Violation(
                    "must not be the code of a class, which would hide the rejected "
                    f"points. Received: {wanted}, a code of class `{name}`",
                    (("prediction", "reject_code"),),
                )
        if self.prediction.min_confidence is not None and self.reject_code is None:
            yield Violation(
                "codes 1 and 0 are codes of classes; set the code of rejected points "
                "with `reject_code`",
                (("prediction", "min_confidence"),),
            )

    def _class_name_violations(self) -> Iterator[Violation]:
        for name in self.classes:
            if not name.strip():
                yield Violation("a class needs a name", (("classes", name),))
            if not is_printable(name):
                yield Violation(
                    "the name of a class must be printable, without line breaks and "
                    f"tabs. Received: {name!a}",
                    (("classes", name),),
                )
        if "probabilities" not in self.prediction.write:
            return
        for name in self.classes:
            if not is_printable(name):
                continue
            dimension, limit = f"p_{name}", ""
            if not dimension.isascii():
                others = "".join(dict.fromkeys(c for c in name if not c.isascii()))
                limit = f"consist of ASCII characters in LAS. Received: {others}"
            elif len(dimension) > LONGEST_DIMENSION:
                limit = (
                    f"have at most {LONGEST_DIMENSION} characters in LAS. "
                    f"Received: {len(dimension)}"
                )
            if limit:
                yield Violation(
                    f"`probabilities` needs a dimension `{dimension}`, whose name must "
                    f"{limit}; rename the class",
                    (("classes", name),),
                )

    def _class_violations(self) -> Iterator[Violation]:
        owner: dict[int, str] = {}
        # The reader has already reported an entry that lacks its codes.
        entries = {n: e for n, e in self.classes.items() if "codes" in vars(e)}
        for name, entry in entries.items():
            for number, code in enumerate(entry.codes):
                if code in owner:
                    yield Violation(
                        f"code {code} of class `{name}` is already claimed by class "
                        f"`{owner[code]}`",
                        (("classes", name, "codes", number),),
                    )
                owner.setdefault(code, name)
        for name, entry in entries.items():
            if (
                entry.output_code is not None
                and owner.get(entry.output_code, name) != name
            ):
                yield Violation(
                    f"class `{name}` must not be written as {entry.output_code}, a "
                    f"code of class `{owner[entry.output_code]}`",
                    (("classes", name, "output_code"),),
                )

    def _label_violations(self) -> Iterator[Violation]:
        labels = self.labels
        yield from code_violations(
            labels.codes, self.class_names, labels.dimension, ("labels", "codes")
        )

    def _group_violations(self, name: str) -> Iterator[Violation]:
        for number, group in enumerate(getattr(self.clouds, name)):
            if not isinstance(group, CloudGroupSpec):
                continue
            key: KeyPath = ("clouds", name, number)
            key += ("classes",) if group.classes else ("labels", "codes")
            yield from code_violations(
                group.codes, self.class_names, self.labels_of(group).dimension, key
            )

    def labels_of(self, group: CloudGroupSpec | None) -> LabelsSpec:
        """Where the labels of a group of clouds, or of other clouds, are read from."""
        return self.labels if group is None else (group.labels or self.labels)

    @property
    def class_names(self) -> list[str]:
        """Names in the order of the class index."""
        return list(self.classes)

    @property
    def class_codes(self) -> dict[str, list[int]]:
        """LAS codes of each class, in the order of the class index."""
        return {name: entry.codes for name, entry in self.classes.items()}

    @property
    def reject_code(self) -> int | None:
        """The code of rejected points; None if 1 and 0 are codes of classes."""
        if self.prediction.reject_code is not None:
            return self.prediction.reject_code
        taken = {code for e in self.classes.values() for code in (*e.codes, e.code)}
        return next((code for code in (1, 0) if code not in taken), None)

    @property
    def points_per_batch(self) -> int:
        """Points of the finest stage in a training batch, padding included."""
        return self.training.batch_size * self.model.stages[0].points

    @property
    def prediction_batch(self) -> int:
        """Fields per batch in prediction."""
        return self.prediction.batch_size or self.training.batch_size

    @property
    def link_distance(self) -> float:
        """Largest distance between connected points of a disagreement, in meters."""
        return self.evaluation.link_distance * self.fields.grid_size

    @property
    def spacings(self) -> list[float]:
        """Point spacing of each stage in meters: the edge of its grid cells."""
        return [self.fields.grid_size * 2**n for n in range(len(self.model.stages))]
