"""Train the network that a spec describes."""

import dataclasses
import functools
import logging
import time
from pathlib import Path

from vl3d_lite.model import prepare_backend, require_flash_attention
from vl3d_lite.pipeline.building import BuiltTraining, build_training
from vl3d_lite.pipeline.calibrating import calibrate
from vl3d_lite.pipeline.export import export_epoch
from vl3d_lite.pipeline.independence import input_records
from vl3d_lite.pipeline.opening import open_initial_weights
from vl3d_lite.pipeline.preparing import (
    TrainingInputs,
    check_inputs,
    prepare_inputs,
    require_memory,
)
from vl3d_lite.pipeline.publishing import (
    begin_run,
    publish,
    require_same_inputs,
    require_same_records,
    require_same_spec,
    require_unchanged,
)
from vl3d_lite.pipeline.validating import make_validator
from vl3d_lite.prediction import Classifier
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.spec import LoadedSpec, Spec
from vl3d_lite.system import Interrupts
from vl3d_lite.training import (
    Progress,
    TrainingLoop,
    require_tensorboard,
    resumable,
)

logger = logging.getLogger(__name__)


def train(loaded: LoadedSpec, run: RunFolder, options: Options) -> None:
    """Train the network of a spec and write it to a run folder.

    Args:
        loaded: The spec, with the files of its clouds.
        run: Where model, scaling, calibration, history and checkpoints go.
        options: `threads`, `quiet`, `resume` and `overwrite`.

    Raises:
        VL3DError: Of the kind that fits: the spec, a cloud or the run folder cannot
            be used, memory does not suffice, the loss diverged, or a signal came.
    """
    # The folder comes first: everything after it takes seconds.
    run.refuse_if_present(resume=options.resume, overwrite=options.overwrite)
    with run.locked():
        train_locked(loaded, run, options)


def train_locked(loaded: LoadedSpec, run: RunFolder, options: Options) -> None:
    """Train as `train` does, in a run folder that this process has locked."""
    spec = loaded.spec
    if options.resume and not run.exists():
        logger.info(
            "%s: was stopped before the training began; it starts from the beginning",
            run.root,
        )
        options = dataclasses.replace(options, resume=False)
    if _refuse_or_finished(loaded, run, options):
        return
    require_memory(loaded, options)  # the network alone, before anything is read
    initial = open_initial_weights(spec, run, resume=options.resume)
    check_inputs(loaded)
    prepare_backend(spec.seed, options.threads)
    with Interrupts() as interrupts:
        began = time.monotonic()
        recorded = input_records(loaded)
        if options.resume:  # it was compared before the hashes above were taken
            require_same_records(recorded, run)
        inputs = prepare_inputs(loaded, run, initial, options, interrupts)
        built = build_training(spec, inputs, initial)
        # All that enters the run is read: it must be what was hashed.
        require_unchanged([*recorded, *([initial.record] if initial else [])])
        begin_run(loaded, run, inputs, initial, built.model, recorded, options)
        prepared = time.monotonic()
        progress = _fit(built, inputs, spec, run, options, interrupts)
        classifier = Classifier(
            built.inference, spec, inputs.scaling, options, interrupts
        )
        temperature = calibrate(run, inputs.calibration, classifier)
        publish(
            run,
            spec,
            built.model,
            temperature,
            threads=options.threads,
            xla=bool(built.model.jit_compile),
            seconds_of_preparation=round(prepared - began, 2),
            seconds_of_training=round(time.monotonic() - prepared, 2),
            best_epoch=progress.best_epoch,
        )
        interrupts.check(f"{run.root}: interrupted; the training itself is finished")


def _fit(
    built: BuiltTraining,
    inputs: TrainingInputs,
    spec: Spec,
    run: RunFolder,
    options: Options,
    interrupts: Interrupts,
) -> Progress:
    loop = TrainingLoop(
        built.model,
        built.batches,
        spec,
        run,
        interrupts,
        weights=built.loss_weights,
        validate=make_validator(built.inference, inputs, spec, options),
        on_epoch=functools.partial(export_epoch, run, spec),
        quiet=options.quiet,
    )
    with resumable(run):
        return loop.fit(resume=options.resume)


def _refuse_or_finished(loaded: LoadedSpec, run: RunFolder, options: Options) -> bool:
    """Refuse what cannot be trained; return whether the run is already trained."""
    initial = loaded.spec.training.initial_weights
    # Again, because it was not locked when it was looked at first.
    run.refuse_if_present(resume=options.resume, overwrite=options.overwrite)
    if options.resume:
        require_same_spec(loaded, run)
        require_same_inputs(loaded, run)
        if run.model.is_file():
            logger.info("%s: the run is already trained", run.root)
            return True
    if options.overwrite:
        run.require_apart(path for paths in loaded.clouds.values() for path in paths)
        if initial is not None:
            run.require_apart([RunFolder(Path(initial)).model])
    require_tensorboard(loaded.spec)
    require_flash_attention(loaded.spec)
    return False
