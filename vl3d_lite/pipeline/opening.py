"""Opening a trained run: its spec, scaling, calibration and network."""

import logging
from collections.abc import Sequence

import keras

from vl3d_lite.dataset.batches import (
    FeatureScaling,
    batch_spec,
)
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.model.files import load_model
from vl3d_lite.prediction.calibration import Temperature
from vl3d_lite.runs import provenance
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.spec.schema.spec import Spec

logger = logging.getLogger(__name__)


def open_run(
    run: RunFolder, overrides: Sequence[str] = ()
) -> tuple[Spec, FeatureScaling]:
    """The spec and the scaling of a trained run.

    Raises:
        DataError: The folder is not a trained run of this version.
    """
    run.require_model()
    try:
        spec = read_spec(run.spec, check_files=False).spec
        scaling = FeatureScaling.from_json(run.features.read_text())
        if not scaling.names:
            raise DataError(f"{run.features.name} names no feature")
    except (SpecError, DataError, ValueError, OSError) as error:
        raise DataError(
            f"{run.root}: cannot be used with this version ({error}); train again"
        ) from error
    if run.read_provenance().get("network_sha256") not in (
        None,
        provenance.network_hash(run.spec.read_text()),
    ):
        raise DataError(
            f"{run.spec}: is not the spec that {run.model} was trained with; restore "
            "it from a copy. `--set prediction.<key>=<value>` changes how a model "
            "predicts"
        )
    if overrides:
        spec = read_spec(run.spec, overrides, check_files=False).spec
    return spec, scaling


def open_calibration(run: RunFolder, spec: Spec) -> Temperature:
    """The temperature of a trained run; 1 where there is none or none is wanted.

    Raises:
        DataError: ``calibration.json`` is damaged.
    """
    if not spec.prediction.calibrate:
        return Temperature()
    if spec.prediction.temperature is not None:
        return Temperature(spec.prediction.temperature)
    if not run.calibration.is_file():
        logger.info(
            "%s: has no %s; confidence is what the network says, not calibrated",
            run.root,
            run.calibration.name,
        )
        return Temperature()
    try:
        return Temperature.from_json(run.calibration.read_text())
    except (DataError, OSError, ValueError) as error:
        raise DataError(f"{run.calibration}: cannot be used ({error})") from error


def load_network(run: RunFolder, spec: Spec, scaling: FeatureScaling) -> keras.Model:
    """The model of a run, checked against the run's spec.

    Raises:
        DataError: The model cannot be loaded or is another run's.
    """
    model = load_model(run.model)
    wanted = {
        name: shape for name, (shape, _) in batch_spec(spec, len(scaling.names)).items()
    }
    found = {tensor.name: tuple(tensor.shape[1:]) for tensor in model.inputs}
    classes = model.output_shape[-1]
    if found != wanted or classes != len(spec.classes):
        raise DataError(
            f"{run.model}: is not the model of {run.spec}, whose inputs are {wanted} "
            f"for {len(spec.classes)} classes. Received: {found} for {classes}. "
            "Restore both from one run, or train again"
        )
    return model
