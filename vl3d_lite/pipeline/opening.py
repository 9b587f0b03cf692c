"""Opening a trained run: its spec, scaling, calibration and network."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras

from vl3d_lite.dataset import FeatureScaling, batch_spec
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.model import load_model, prepare_backend
from vl3d_lite.prediction import (
    Classifier,
    Inference,
    Origin,
    Temperature,
    group_classes,
)
from vl3d_lite.runs import Options, RunFolder, provenance
from vl3d_lite.spec import Spec, feature_columns, read_spec
from vl3d_lite.system import Interrupts, file_hash, read_text
from vl3d_lite.training import require_same_features

logger = logging.getLogger(__name__)


def open_run(
    run: RunFolder, overrides: Sequence[str] = ()
) -> tuple[Spec, FeatureScaling]:
    """The spec and the feature scaling of a trained run.

    Args:
        run: The run folder.
        overrides: Changes of the spec, ``key=value`` each.

    Raises:
        SpecError: An override is invalid.
        DataError: The folder is not a trained run of this version.
    """
    run.require_model()
    try:
        spec = read_spec(run.spec, check_files=False).spec
        network = provenance.network_hash(read_text(run.spec, "restore it"))
    except (SpecError, DataError) as error:
        raise DataError(
            f"{run.root}: cannot be used with this version ({error}); train again"
        ) from error
    scaling = FeatureScaling.read(run.features)
    run.require_recorded(run.features)
    _require_features(run, spec, scaling)
    # Other sections may change after the training: the model does not depend on them.
    if run.read_provenance().get("network_sha256") not in (None, network):
        raise DataError(
            f"{run.spec}: is not the spec that {run.model} was trained with; restore "
            "it from a copy. To change how a model predicts, use "
            "`--set prediction.<key>=<value>`"
        )
    if overrides:
        spec = read_spec(run.spec, overrides, check_files=False).spec
    return spec, scaling


def _require_features(run: RunFolder, spec: Spec, scaling: FeatureScaling) -> None:
    wanted = feature_columns(spec.features)
    if scaling.names != wanted:
        raise DataError(
            f"{run.features}: must hold the features of {run.spec.name}, "
            f"{', '.join(wanted)}. Received: {', '.join(scaling.names)}; restore "
            "both from one run"
        )


def open_calibration(run: RunFolder, spec: Spec) -> Temperature:
    """The calibration temperature that a trained run predicts with.

    It is the one of the spec, or else the fitted one. Without a fitted one, or with
    `prediction.calibrate` off, it is 1, which changes nothing.

    Raises:
        DataError: ``calibration.json`` is damaged, or not the one of the run.
    """
    if not spec.prediction.calibrate:
        return Temperature()
    if spec.prediction.temperature is not None:
        return Temperature(spec.prediction.temperature)
    if not run.calibration.is_file():
        recorded = run.calibration.name in run.read_provenance().get("files", {})
        logger.log(
            logging.WARNING if recorded else logging.INFO,
            "%s: has no %s; confidence is not calibrated",
            run.root,
            run.calibration.name,
        )
        return Temperature()
    temperature = Temperature.read(run.calibration)
    run.require_recorded(run.calibration)
    return temperature


def origin_of(
    run: RunFolder, spec: Spec, temperature: Temperature, class_groups: str
) -> Origin:
    """What predictions of a trained run are made with.

    Args:
        run: The run folder.
        spec: Its spec, with the settings of the prediction.
        temperature: The calibration.
        class_groups: The groups that classes are merged into; empty for none.

    Raises:
        DataError: The model is not the one that ``run.json`` records.
    """
    run.require_recorded(run.model)
    content = run.read_provenance()
    # The name of the spec stays when a folder is moved; users know a shipped model
    # by the name of its folder.
    name = run.root.resolve().name
    if content.get("spec") and not content.get("shipped"):
        name = Path(content["spec"]).stem
    return Origin(
        model=name,
        weights_sha256=content.get("weights_sha256") or file_hash(run.model),
        network_sha256=provenance.network_hash(read_text(run.spec, "restore it")),
        features_sha256=file_hash(run.features),
        settings=spec.prediction.model_dump(exclude_unset=True),
        class_groups=class_groups,
        temperature=temperature.value,
        unit=spec.clouds.unit,
    )


def load_network(run: RunFolder, spec: Spec, scaling: FeatureScaling) -> keras.Model:
    """The model of a run, checked against the run's spec.

    Raises:
        DataError: The model cannot be loaded, is not the file that ``run.json``
            records, or belongs to another run.
    """
    run.require_recorded(run.model)  # before the file is unpacked
    model = load_model(run.model)
    expected = {
        name: shape for name, (shape, _) in batch_spec(spec, len(scaling.names)).items()
    }
    found = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
    n_classes = model.output_shape[-1]
    if found != expected or n_classes != len(spec.classes):
        raise DataError(
            f"{run.model}: is not the model of {run.spec}, whose inputs are "
            f"{expected} for {len(spec.classes)} classes. Received: {found} for "
            f"{n_classes}. "
            "Restore both from one run, or train again"
        )
    return model


@dataclass(frozen=True)
class OpenedRun:
    """A trained run, opened to predict clouds; its network is not loaded yet.

    Attributes:
        run: The run folder.
        spec: Its spec, with the settings of the prediction.
        scaling: The scaling of its features.
        temperature: The calibration.
        class_groups: The groups that classes are merged into; empty for none.
        grouped: The spec of the classes that are written.
        origin: What the predictions are made with.
    """

    run: RunFolder
    spec: Spec
    scaling: FeatureScaling
    temperature: Temperature
    class_groups: str
    grouped: Spec
    origin: Origin

    def classifier(
        self,
        options: Options,
        interrupts: Interrupts,
        outside: Mapping[Path, Sequence[str]],
    ) -> Classifier:
        """Load the network.

        Args:
            options: Options of the command.
            interrupts: Checked for a signal.
            outside: For clouds outside the domain of the run what lies outside.

        Raises:
            DataError: The network cannot be loaded, or is not the one of the run.
        """
        prepare_backend(self.spec.seed, options.threads)
        network = load_network(self.run, self.spec, self.scaling)
        return Classifier(
            Inference(network, self.spec),
            self.spec,
            self.scaling,
            options,
            interrupts,
            self.temperature,
            self.class_groups,
            self.origin,
            outside,
        )


def open_to_predict(
    run: RunFolder, overrides: Sequence[str], class_groups: str
) -> OpenedRun:
    """Open a trained run to predict clouds with it.

    Args:
        run: The run folder.
        overrides: Changes of the spec, ``key=value`` each.
        class_groups: Groups to merge the classes into; empty for none.

    Raises:
        SpecError: An override or a group is invalid.
        DataError: The folder is not a trained run of this version.
    """
    spec, scaling = open_run(run, overrides)
    temperature = open_calibration(run, spec)
    # Invalid groups are an error before anything is done.
    grouped = group_classes(spec, class_groups)[0] if class_groups else spec
    origin = origin_of(run, spec, temperature, class_groups)
    return OpenedRun(run, spec, scaling, temperature, class_groups, grouped, origin)


@dataclass(frozen=True)
class InitialWeights:
    """A trained run that another training takes its initial weights from.

    Attributes:
        run: Its folder.
        spec: Its spec.
        scaling: The scaling of its features, which the new run keeps.
        record: Path, bytes and SHA-256 of its model before the model is read.
    """

    run: RunFolder
    spec: Spec
    scaling: FeatureScaling
    record: dict


def open_initial_weights(
    spec: Spec, run: RunFolder, *, resume: bool
) -> InitialWeights | None:
    """Open the run that `training.initial_weights` names.

    Args:
        spec: The spec of the new training.
        run: The new run.
        resume: Whether the new run is resumed.

    Returns:
        None where the spec names no run, or where the checkpoint of a resumed run
        holds the weights.

    Raises:
        DataError: The named folder is not a trained run.
        SpecError: Its features are not those of the spec.
    """
    begun = resume and bool(run.checkpoint_files())
    if spec.training.initial_weights is None or begun:
        return None
    source = RunFolder(Path(spec.training.initial_weights))
    opened = open_run(source)
    (record,) = provenance.inputs([source.model])
    initial = InitialWeights(source, *opened, record)
    require_same_features(spec, initial.scaling)
    if initial.spec.fields.grid_size != spec.fields.grid_size:
        logger.warning(
            "`fields.grid_size` is %g m, that of %s was %g m: kernels scale with it, "
            "so the initial weights may not fit",
            spec.fields.grid_size,
            source.root,
            initial.spec.fields.grid_size,
        )
    return initial
