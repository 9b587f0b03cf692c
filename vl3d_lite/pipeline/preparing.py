"""Prepare the clouds of a spec for training and validation."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vl3d_lite.dataset import (
    CloudSize,
    Domain,
    FeatureScaling,
    PreparedCloud,
    check_clouds,
    cloud_warnings,
    impute_constant_features,
    labeled_facts,
    labeled_warnings,
    measure_domain,
    prepare_files,
    prepare_training_files,
    size_of,
)
from vl3d_lite.model import uses_accelerator
from vl3d_lite.pipeline.opening import InitialWeights
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.spec import LoadedSpec, Spec
from vl3d_lite.system import Interrupts
from vl3d_lite.training import REFUSE_ABOVE, require_memory_for

logger = logging.getLogger(__name__)

# Prepared clouds that have labels, each with its file.
LabeledClouds = list[tuple[Path, PreparedCloud]]


@dataclass(frozen=True)
class TrainingInputs:
    """The prepared clouds of a training.

    Attributes:
        clouds: Training clouds, each on every grid of the augmentation.
        calibration: Validation clouds with labels, each with its file. They
            validate every epoch, and confidence is calibrated on them.
        scaling: The scaling of their features.
        domain: What the training clouds look like; None where the run is resumed from
            a checkpoint, whose folder holds it.
    """

    clouds: list[PreparedCloud]
    calibration: LabeledClouds
    scaling: FeatureScaling
    domain: Domain | None

    @property
    def validation(self) -> list[PreparedCloud]:
        """The validation clouds with labels."""
        return [cloud for _, cloud in self.calibration]


def require_memory(
    loaded: LoadedSpec,
    options: Options,
    train: Sequence[CloudSize] = (),
    validation: Sequence[CloudSize] = (),
) -> None:
    """Refuse a training that needs far more memory than is free.

    Args:
        loaded: The spec.
        options: `threads` counts.
        train: Sizes of the training clouds; without them only the network counts.
        validation: Sizes of the validation clouds.

    Raises:
        ResourceError: It names the amounts and three settings that lower them.
    """
    require_memory_for(
        loaded.spec,
        loaded.path,
        train,
        validation,
        threads=options.threads,
        accelerator=uses_accelerator(),
        refuse_above=REFUSE_ABOVE,
    )


def check_inputs(loaded: LoadedSpec) -> None:
    """Check the training and validation clouds without reading their coordinates.

    Raises:
        DataError: A cloud cannot be used, or no training cloud has a class.
    """
    train, validation = loaded.clouds["train"], loaded.clouds["validation"]
    check_clouds(train, loaded.spec, count_classes=True)
    check_clouds(validation, loaded.spec, count_classes=False)
    for warning in cloud_warnings(loaded.spec, loaded.clouds):
        logger.warning("warning: %s", warning)


def prepare_inputs(
    loaded: LoadedSpec,
    run: RunFolder,
    initial: InitialWeights | None,
    options: Options,
    interrupts: Interrupts,
) -> TrainingInputs:
    """Read and prepare the clouds of a training, and scale their features.

    Nothing reads the clouds after it.

    Args:
        loaded: The spec, with the files of its clouds.
        run: Its ``features.json`` gives the scaling where the run is resumed.
        initial: The run whose weights the training starts from; its scaling holds.
        options: `threads`, `quiet` and `resume`.
        interrupts: Checked between the steps for a signal.

    Raises:
        DataError: A cloud cannot be used.
        ResourceError: The clouds do not fit into memory.
        InterruptedRunError: A signal came; nothing is written.
    """
    spec, paths = loaded.spec, loaded.clouds["validation"]
    threads, quiet = options.threads, options.quiet
    clouds = prepare_training_files(loaded.clouds["train"], spec, threads, quiet=quiet)
    validation = prepare_files(
        paths, spec, threads, quiet=quiet, role="validation clouds"
    )
    for cloud in validation:
        if not np.any(cloud.labels >= 0):
            logger.warning("%s: has no labels, so it cannot validate", cloud.name)
    held_out = [cloud for cloud in validation if np.any(cloud.labels >= 0)]
    interrupts.check("interrupted before training began; nothing was written")
    sizes = [size_of(cloud) for cloud in held_out]
    require_memory(loaded, options, [size_of(cloud) for cloud in clouds], sizes)
    _warn_of_labeled(loaded, clouds, validation)
    scaling = initial.scaling if initial else _scaling(run, clouds, options)
    labeled = labeled_clouds(paths, validation, spec, scaling)
    domain = None
    if not (options.resume and run.checkpoint_files()):
        domain = measure_domain(loaded.clouds["train"], spec, threads)
    return TrainingInputs(clouds, labeled, scaling, domain)


def _warn_of_labeled(
    loaded: LoadedSpec, train: list[PreparedCloud], validation: list[PreparedCloud]
) -> None:
    """Log what `plan` would have reported about the prepared clouds."""
    spec = loaded.spec
    first_grids = train[:: spec.training.augmentation.grids]
    facts = [
        labeled_facts(path, group, cloud, spec)
        for group, clouds in (("train", first_grids), ("validation", validation))
        for path, cloud in zip(loaded.clouds[group], clouds, strict=True)
    ]
    for warning in labeled_warnings(spec, facts):
        logger.warning("warning: %s", warning)


def _scaling(
    run: RunFolder, clouds: list[PreparedCloud], options: Options
) -> FeatureScaling:
    # A run that started from another one resumes with the scaling of that one.
    if options.resume and run.checkpoint_files() and run.features.is_file():
        return FeatureScaling.read(run.features)
    return FeatureScaling.fit(clouds)


def labeled_clouds(
    paths: Sequence[Path],
    clouds: Sequence[PreparedCloud],
    spec: Spec,
    scaling: FeatureScaling,
) -> LabeledClouds:
    """The prepared clouds that have labels, with their files.

    Features that a file does not carry are imputed, as they are in prediction.
    """
    return [
        (path, impute_constant_features(path, cloud, spec, scaling))
        for path, cloud in zip(paths, clouds, strict=True)
        if np.any(cloud.labels >= 0)
    ]


def shared_files(some: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """The files of `some` that are also among `others`, whatever their paths."""
    known = {path.resolve() for path in others}
    return [path for path in some if path.resolve() in known]
