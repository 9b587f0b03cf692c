"""Train the network that a spec describes."""

import functools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from vl3d_lite.dataset.batches import (
    FeatureScaling,
    SweepBatches,
    TrainingBatches,
    batch_spec,
)
from vl3d_lite.dataset.files import (
    check_clouds,
    prepare_files,
    prepare_for_training,
)
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.dataset.scaling import impute_constant_features
from vl3d_lite.dataset.sizes import size_of
from vl3d_lite.errors import InterruptedRunError, SpecError
from vl3d_lite.evaluation.scores import Scores, confusion_matrix
from vl3d_lite.model.backend import (
    prepare_backend,
    require_flash_attention,
    uses_accelerator,
)
from vl3d_lite.model.files import save_model
from vl3d_lite.model.kernels import Kernel, kernels_of, save_kernels
from vl3d_lite.model.network import build_network
from vl3d_lite.pipeline.export import initial_kernels, write_kernels
from vl3d_lite.pipeline.opening import load_network, open_run
from vl3d_lite.prediction.calibration import Temperature, fit_temperature
from vl3d_lite.prediction.classifier import Classifier
from vl3d_lite.prediction.inference import Inference
from vl3d_lite.prediction.votes import predict_cells
from vl3d_lite.runs import provenance
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.reader import LoadedSpec, dump_spec
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.system.resources import peak_memory
from vl3d_lite.system.writing import write_json, write_text
from vl3d_lite.training.initial_weights import require_same_features, take_weights
from vl3d_lite.training.loop import class_weights, fit, require_tensorboard
from vl3d_lite.training.memory import SURE
from vl3d_lite.training.remedies import require_memory_for

logger = logging.getLogger(__name__)


def train(loaded: LoadedSpec, run: RunFolder, options: Options) -> None:
    """Train the network a spec describes and leave it in the run folder."""
    spec = loaded.spec
    run.refuse_if_present(resume=options.resume, overwrite=options.overwrite)
    if options.resume:
        _require_same_spec(loaded, run)
        if run.model.is_file():
            logger.info("%s: is trained already", run.root)
            return
    if options.overwrite:
        run.require_apart(path for paths in loaded.clouds.values() for path in paths)
        if spec.training.initial_weights is not None:
            run.require_apart([RunFolder(Path(spec.training.initial_weights)).model])
    require_tensorboard(spec)
    require_flash_attention(spec)
    fits = functools.partial(
        require_memory_for,
        spec,
        loaded.path,
        threads=options.threads,
        accelerator=uses_accelerator(),
        sure=SURE,
    )
    fits()  # the network alone, before anything is read
    begun = options.resume and run.last_checkpoint.is_file()
    start = None if begun else _open_start(spec)
    check_clouds(loaded.clouds["train"], spec, census=True)
    check_clouds(loaded.clouds["validation"], spec, census=False)
    for path in shared_files(loaded.clouds["train"], loaded.clouds["validation"]):
        logger.warning(
            "%s: is trained on and validates too, so validation scores will flatter; "
            "take it out of `clouds.train` or `clouds.validation`",
            path,
        )
    prepare_backend(spec.seed, options.threads)
    with Interrupts() as interrupts:
        began = time.monotonic()
        clouds = prepare_for_training(
            loaded.clouds["train"], spec, options.threads, quiet=options.quiet
        )
        validation = prepare_files(
            loaded.clouds["validation"],
            spec,
            options.threads,
            quiet=options.quiet,
            what="validation clouds",
        )
        held_out = _labelled_only(validation)
        interrupts.check("interrupted before training began; nothing was written")
        fits(train=list(map(size_of, clouds)), validation=list(map(size_of, held_out)))
        scaling = start.scaling if start else _scaling(run, clouds, begun)
        sources = labelled_sources(
            loaded.clouds["validation"], validation, spec, scaling
        )
        batches = TrainingBatches(clouds, spec, scaling)
        model = build_network(
            spec.model,
            batch_spec(spec, len(scaling.names)),
            n_classes=len(spec.classes),
            spacings=spec.spacings,
            precision=spec.training.precision,
        )
        inference = Inference(model, spec)
        if start:
            network = load_network(start.run, start.spec, start.scaling)
            head = take_weights(model, network, spec, start.spec)
            logger.info("starting from %s: %s", start.run.root, head)
        if not options.resume:
            run.create(overwrite=options.overwrite)
        if not run.last_checkpoint.is_file():
            _begin_run(loaded, run, scaling, kernels_of(model))
        prepared = time.monotonic()
        progress = fit(
            model,
            batches,
            spec,
            run,
            weights=class_weights(spec, [cloud.labels for cloud in clouds]),
            validate=held_out
            and _validator(inference, held_out, spec, scaling, options),
            on_epoch=functools.partial(_export_epoch, run, spec),
            interrupts=interrupts,
            resume=options.resume,
            quiet=options.quiet,
        )
        temperature = calibrate(
            run, sources, Classifier(inference, spec, scaling, options, interrupts)
        )
        write_json(run.calibration, temperature.to_dict())
        kernels = kernels_of(model)
        if spec.export.kernels:
            write_kernels(
                run,
                spec,
                run.kernels,
                "TRAINED",
                kernels,
                initial_kernels(run, kernels),
            )
        save_model(model, run.model)
        run.update_provenance(
            **network_facts(run, model),
            threads=options.threads,
            xla=bool(model.jit_compile),
            seconds_of_preparation=round(prepared - began, 2),
            seconds_of_training=round(time.monotonic() - prepared, 2),
            best_epoch=progress.best_epoch,
        )
        interrupts.check(f"{run.root}: interrupted; the training itself is finished")


def labelled_sources(
    paths: Sequence[Path],
    clouds: Sequence[PreparedCloud],
    spec: Spec,
    scaling: FeatureScaling,
) -> list[tuple[Path, PreparedCloud]]:
    """Clouds that have labels, with their files; what they lack is filled in."""
    sources = [
        (path, cloud)
        for path, cloud in zip(paths, clouds, strict=True)
        if np.any(cloud.labels >= 0)
    ]
    for path, cloud in sources:
        impute_constant_features(path, cloud, spec, scaling)
    return sources


def network_facts(run: RunFolder, model: keras.Model) -> dict:
    """What a receipt says of a network, once its files are written."""
    return {
        "files": {
            path.name: provenance.file_hash(path)
            for path in (run.model, run.features, run.calibration)
        },
        "weights_sha256": provenance.array_hash(
            keras.ops.convert_to_numpy(variable) for variable in model.variables
        ),
        "parameters": model.count_params(),
        "peak_memory": peak_memory(),
    }


@dataclass(frozen=True)
class _Start:
    run: RunFolder
    spec: Spec
    scaling: FeatureScaling


def _open_start(spec: Spec) -> _Start | None:
    """The run to start from, if there is one.

    Raises:
        DataError: It is no trained run.
        SpecError: Its features are others.
    """
    if spec.training.initial_weights is None:
        return None
    run = RunFolder(Path(spec.training.initial_weights))
    start = _Start(run, *open_run(run))
    require_same_features(spec, start.scaling)
    if start.spec.fields.grid_size != spec.fields.grid_size:
        logger.warning(
            "`fields.grid_size` is %g m, that of %s was %g m: kernels grow alike, and "
            "what was learned may not fit",
            spec.fields.grid_size,
            run.root,
            start.spec.fields.grid_size,
        )
    return start


def _scaling(run: RunFolder, clouds: list[PreparedCloud], begun: bool):
    # The scaling of a run that was started from another is that one's.
    if begun and run.features.is_file():
        return FeatureScaling.from_json(run.features.read_text())
    return FeatureScaling.fit(clouds)


def shared_files(some: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    """Those of some files that are among others, by whatever path."""
    known = {path.resolve() for path in others}
    return [path for path in some if path.resolve() in known]


def _labelled_only(clouds: list[PreparedCloud]) -> list[PreparedCloud]:
    for cloud in clouds:
        if not np.any(cloud.labels >= 0):
            logger.warning("%s: has no labels; it cannot validate", cloud.name)
    return [cloud for cloud in clouds if np.any(cloud.labels >= 0)]


def _require_same_spec(loaded: LoadedSpec, run: RunFolder) -> None:
    before = run.read_provenance().get("spec_sha256")
    if before != provenance.text_hash(dump_spec(loaded.spec)):
        raise SpecError(
            f"{loaded.path}: differs from the spec that {run.spec} was begun with; "
            f"resume with `{run.spec}`, or start anew with --overwrite or another --run"
        )


def _begin_run(loaded, run, scaling, kernels: list[Kernel]) -> None:
    text = dump_spec(loaded.spec)
    write_json(
        run.provenance,
        {
            **provenance.environment(),
            "accelerator": uses_accelerator(),
            "spec": str(loaded.path),
            "spec_sha256": provenance.text_hash(text),
            "network_sha256": provenance.network_hash(text),
            "seed": loaded.spec.seed,
            **_started_from(loaded.spec),
            "inputs": provenance.inputs(
                [*loaded.clouds["train"], *loaded.clouds["validation"]]
            ),
        },
    )
    write_text(run.spec, text)
    write_text(run.features, scaling.to_json())
    save_kernels(run.initial_kernels, kernels)
    if loaded.spec.export.kernels:
        write_kernels(run, loaded.spec, run.kernels, "INIT", kernels, None)


def _started_from(spec: Spec) -> dict:
    if spec.training.initial_weights is None:
        return {}
    model = RunFolder(Path(spec.training.initial_weights)).model
    return {
        "started_from": {
            "model": str(model),
            "sha256": provenance.file_hash(model),
        }
    }


def _validator(inference, clouds, spec, scaling, options):
    sweeps = [
        SweepBatches(
            cloud,
            spec,
            scaling,
            votes=1,
            batch_size=spec.prediction_batch,
            threads=options.threads,
        )
        for cloud in clouds
    ]
    n_batches = sum(map(len, sweeps)) * spec.training.epochs

    def validate() -> dict:
        view = inference.view(n_batches)
        at_once = inference.batches_at_once(options.threads)
        counts = sum(
            confusion_matrix(
                cloud.labels,
                predict_cells(view, sweep, cloud.xyz, at_once=at_once).classes,
                len(spec.classes),
            )
            for cloud, sweep in zip(clouds, sweeps, strict=True)
        )
        scores = Scores(counts)
        return {
            "miou": scores.mean_iou,
            "accuracy": scores.overall_accuracy,
            **{
                f"iou_{name}": value
                for name, value in zip(spec.class_names, scores.iou, strict=True)
            },
        }

    return validate


def calibrate(run: RunFolder, sources, classifier: Classifier) -> Temperature:
    """Fit the temperature on validation clouds, predicted as clouds will be.

    Raises:
        InterruptedRunError: A signal came; the training is not lost.
    """
    if not sources:
        logger.info(
            "no validation cloud has labels: confidence is not calibrated "
            "(temperature 1)"
        )
        return Temperature()

    def samples():
        for path, cloud in sources:
            first = {0: cloud}  # prepared already

            def sweep(path, grid, first=first):
                return classifier.sweep(path, grid, first.get(grid))

            voted = classifier.vote(path, sweep, "calibrating on")
            yield voted.prediction.probabilities, voted.cell_of_point, voted.labels

    try:
        temperature = fit_temperature(samples())
    except InterruptedRunError as error:
        raise InterruptedRunError(
            f"{run.root}: interrupted while confidence was calibrated; the training "
            "itself is finished, go on with --resume",
            error.exit_code,
        ) from None
    logger.info(
        "calibration: temperature %.3f; expected error on the validation clouds %.4f, "
        "%.4f before",
        temperature.value,
        temperature.after.expected_error,
        temperature.before.expected_error,
    )
    return temperature


def _export_epoch(run: RunFolder, spec: Spec, epoch: int, model) -> None:
    every = spec.export.every if spec.export.kernels else None
    if every and epoch % every == 0:
        kernels = kernels_of(model)
        stage = f"EPOCH_{epoch:03d}"
        write_kernels(
            run, spec, run.kernels, stage, kernels, initial_kernels(run, kernels)
        )
