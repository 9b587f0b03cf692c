"""The verbs, one step after the other: the only place where files meet models."""

import functools
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import yaml

from vl3d_lite import attention_scores, receipt
from vl3d_lite.backend import (
    Inference,
    load_model,
    prepare_backend,
    require_flash_attention,
    save_model,
    uses_accelerator,
)
from vl3d_lite.dataset import (
    FeatureScaling,
    SweepBatches,
    TrainingBatches,
    batch_spec,
)
from vl3d_lite.errors import DataError, InterruptedRunError, SpecError, VL3DError
from vl3d_lite.evaluate import Evaluation
from vl3d_lite.evaluate import evaluate as score_clouds
from vl3d_lite.export import export_model_kernels
from vl3d_lite.inputs import (
    check_clouds,
    prepare_file,
    prepare_files,
    prepare_for_training,
)
from vl3d_lite.interrupts import Interrupts
from vl3d_lite.kernel_page import STATISTICS
from vl3d_lite.kernel_statistics import measure_kernels
from vl3d_lite.memory import SURE, require_memory_for, size_of
from vl3d_lite.model.kernels import Kernel, kernels_of, load_kernels, save_kernels
from vl3d_lite.model.network import build_network
from vl3d_lite.outputs import (
    CloudOutcome,
    Outputs,
    check_additions,
    class_column,
    read_outcomes,
    read_pair,
    write_prediction,
)
from vl3d_lite.predict import CellPrediction, mean_over_grids, predict_cells
from vl3d_lite.prepare import PreparedCloud
from vl3d_lite.resources import peak_memory
from vl3d_lite.rotations import RotationReport, measure_rotations
from vl3d_lite.run_folder import RunFolder, output_errors, write_json, write_text
from vl3d_lite.run_report import write_run_report
from vl3d_lite.scores import Scores, confusion_matrix
from vl3d_lite.spec.reader import LoadedSpec, dump_spec, read_spec
from vl3d_lite.spec.schema import Spec
from vl3d_lite.train import class_weights, fit, require_tensorboard

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How a verb behaves beside what the spec says.

    Attributes:
        threads: Processors to use.
        quiet: No progress bars.
        resume: Go on with what was begun.
        overwrite: Replace what lies there.
        replace: Replace dimensions of the same name in the input.
    """

    threads: int
    quiet: bool = False
    resume: bool = False
    overwrite: bool = False
    replace: bool = False


def run(loaded: LoadedSpec, folder: RunFolder, options: Options) -> Evaluation | None:
    """Train, export, predict and evaluate: everything a spec describes.

    Raises:
        VL3DError: Of the first step that failed. A cloud that cannot be
            predicted keeps none of the others from being scored.
    """
    clouds = loaded.clouds["predict"]
    # Names that clash are told before the training, not after it.
    Outputs(folder.predictions, clouds, resume=True, overwrite=options.overwrite)
    _check_predictable(clouds, loaded.spec, options)
    train(loaded, folder, options)
    if not clouds:
        return None
    try:
        predict(folder, clouds, folder.predictions, options)
    except InterruptedRunError:
        raise
    except VL3DError:
        if read_outcomes(folder.predictions):
            _evaluate_run(loaded.spec, folder)
        raise
    return _evaluate_run(loaded.spec, folder)


def _check_predictable(clouds: Sequence[Path], spec: Spec, options: Options) -> None:
    """Tell before the training which clouds cannot be predicted after it.

    Raises:
        VL3DError: Of the first one, if none can.
    """
    troubles = []
    for path in clouds:
        try:
            check_clouds([path], spec, census=False)
            check_additions(path, spec, replace=options.replace)
        except VL3DError as error:
            troubles.append(error)
    if troubles and len(troubles) == len(clouds):
        raise troubles[0]
    for trouble in troubles:
        logger.warning("this cloud will not be predicted: %s", trouble)


def _evaluate_run(spec: Spec, folder: RunFolder) -> Evaluation | None:
    if not class_column(spec):
        logger.info(
            "`prediction.write` names neither `prediction` nor `classification`; "
            "there is nothing to evaluate"
        )
        return None
    return evaluate(folder, folder.predictions)


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
    check_clouds(loaded.clouds["train"], spec, census=True)
    check_clouds(loaded.clouds["validation"], spec, census=False)
    for path in _shared(loaded.clouds["train"], loaded.clouds["validation"]):
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
        held_out = _labelled_only(
            prepare_files(
                loaded.clouds["validation"],
                spec,
                options.threads,
                quiet=options.quiet,
                what="validation clouds",
            )
        )
        interrupts.check("interrupted before training began; nothing was written")
        fits(train=list(map(size_of, clouds)), validation=list(map(size_of, held_out)))
        scaling = FeatureScaling.fit(clouds)
        batches = TrainingBatches(clouds, spec, scaling)
        model = build_network(
            spec.model,
            batch_spec(spec, len(scaling.names)),
            n_classes=len(spec.classes),
            spacings=spec.spacings,
            precision=spec.training.precision,
        )
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
            validate=held_out and _validator(model, held_out, spec, scaling, options),
            on_epoch=functools.partial(_export_epoch, run, spec),
            interrupts=interrupts,
            resume=options.resume,
            quiet=options.quiet,
        )
        kernels = kernels_of(model)
        if spec.export.kernels:
            _export(run, spec, run.kernels, "TRAINED", kernels, _initial(run, kernels))
        save_model(model, run.model)
        run.update_receipt(
            seconds_of_preparation=round(prepared - began, 2),
            seconds_of_training=round(time.monotonic() - prepared, 2),
            best_epoch=progress.best_epoch,
            parameters=model.count_params(),
            peak_memory=peak_memory(),
        )
        interrupts.check(f"{run.root}: interrupted; the training itself is finished")


def predict(
    run: RunFolder,
    paths: Sequence[Path],
    folder: Path,
    options: Options,
    overrides: Sequence[str] = (),
) -> list[CloudOutcome]:
    """Classify clouds with a trained run; write them into `folder`.

    One bad cloud does not stop the others. `overrides` change ``prediction.*``
    of the run's spec.

    Returns:
        What became of each cloud that was predicted, now or before.

    Raises:
        VL3DError: The trouble of the first cloud that failed, after all others
            are done; that of the others is logged as it comes.
    """
    for override in overrides:
        if not override.startswith("prediction."):
            raise SpecError(
                f"--set {override}: a trained run can only change `prediction.*`"
            )
    spec, scaling = open_run(run, overrides)
    outputs = Outputs(folder, paths, resume=options.resume, overwrite=options.overwrite)
    if not outputs.remaining:
        return list(outputs.outcomes.values())
    prepare_backend(spec.seed, options.threads)
    inference = Inference(_load_network(run, spec, scaling), spec)
    outputs.require_writable()
    troubles: list[VL3DError] = []
    with Interrupts() as interrupts:
        for path in outputs.remaining:
            try:
                outcome = predict_cloud(
                    inference,
                    spec,
                    scaling,
                    path,
                    outputs.targets[path],
                    options,
                    interrupts,
                )
            except InterruptedRunError:
                raise
            except VL3DError as error:
                if troubles:
                    logger.error("%s", error)
                troubles.append(error)
            else:
                outputs.record(outcome)
                interrupts.check("interrupted; go on with the other clouds by --resume")
    if troubles:
        first = troubles[0]
        first.args = (
            f"{len(troubles)} of {len(paths)} clouds were not predicted: {first}",
        )
        raise first
    return list(outputs.outcomes.values())


def predict_cloud(
    inference: Inference,
    spec: Spec,
    scaling: FeatureScaling,
    source: Path,
    target: Path,
    options: Options,
    interrupts: Interrupts,
) -> CloudOutcome:
    """Read, predict and write one cloud."""
    began = time.monotonic()
    prediction, row_of_point = mean_over_grids(
        _predict_grids(inference, spec, scaling, source, options, interrupts)
    )
    write_prediction(
        source,
        target,
        prediction,
        row_of_point,
        spec,
        replace=options.replace,
        overwrite=options.overwrite,
    )
    voted = int(np.count_nonzero(prediction.voted[row_of_point]))
    outcome = CloudOutcome(
        source=str(source.resolve()),
        output=target.name,
        points=len(row_of_point),
        voted=voted,
        nearest=len(row_of_point) - voted,
        seconds=round(time.monotonic() - began, 3),
        column=class_column(spec),
        kept=list(spec.prediction.keep),
    )
    logger.info(
        "%s: %d points by votes, %d from the nearest voted cell, %.1f s",
        target,
        outcome.voted,
        outcome.nearest,
        outcome.seconds,
    )
    return outcome


def _predict_grids(
    inference: Inference,
    spec: Spec,
    scaling: FeatureScaling,
    source: Path,
    options: Options,
    interrupts: Interrupts,
) -> Iterator[tuple[CellPrediction, np.ndarray]]:
    """What is said of the cells of each grid, and the cell of each point."""
    for grid in range(spec.prediction.grids):
        cloud = prepare_file(
            source, spec, options.threads, grid=grid, quiet=options.quiet
        )
        batches = SweepBatches(
            cloud,
            spec,
            scaling,
            votes=spec.prediction.votes,
            batch_size=spec.prediction_batch,
            threads=options.threads,
        )
        prediction = predict_cells(
            inference.view(len(batches) * spec.prediction.grids),
            batches,
            cloud.xyz,
            interrupts=interrupts,
            quiet=options.quiet,
            description=f"predicting {source.name}",
        )
        yield prediction, cloud.cell_of_point


def evaluate(run: RunFolder, folder: Path) -> Evaluation | None:
    """Score the predictions in `folder` whose sources carry labels.

    Writes ``metrics.json``, ``metrics.csv``, plots and ``report.html`` into the
    run folder.

    Returns:
        The scores; None where no source carries a label.

    Raises:
        DataError: There are no predictions, or a file of one is gone.
    """
    spec, _ = open_run(run)
    outcomes = read_outcomes(folder)
    if not outcomes:
        raise DataError(
            f"{folder}: holds no predictions; make some with `vl3d-lite predict`"
        )
    result = score_clouds(_labelled(spec, folder, outcomes), spec.class_names)
    if not result.clouds:
        logger.info("no cloud carries labels; there is nothing to score")
        result = None
        with output_errors(run.root):
            for stale in (run.metrics, run.scores, run.confusion_plot):
                stale.unlink(missing_ok=True)
    else:
        write_json(run.metrics, result.to_dict())
        result.write_csv(run.scores)
    write_run_report(run, spec, result, folder, outcomes)
    return result


def rotations(run: RunFolder, cloud: Path, options: Options) -> RotationReport:
    """Say how many points of a cloud keep their class when it is turned.

    Writes ``rotations.json`` into the run folder.

    Raises:
        VL3DError: The run or the cloud cannot be used, or a signal came.
    """
    spec, scaling = open_run(run)
    check_clouds([cloud], spec, census=False)
    prepare_backend(spec.seed, options.threads)
    model = _load_network(run, spec, scaling)
    prepared = prepare_file(cloud, spec, options.threads, quiet=options.quiet)
    with Interrupts() as interrupts:
        result = measure_rotations(
            model,
            prepared,
            spec,
            scaling,
            threads=options.threads,
            interrupts=interrupts,
            quiet=options.quiet,
        )
    write_json(run.rotations, result.to_dict())
    return result


def export(
    run: RunFolder, folder: Path, options: Options, cloud: Path | None = None
) -> None:
    """Write the kernels of a run, at initialization and after training.

    With a cloud also ``statistics.json``: what the trained kernels and attention
    heads do there; and, of `gqa` blocks, the scores in ``attention/``.
    """
    spec, scaling = open_run(run)
    if folder.resolve() != run.kernels.resolve() and not options.overwrite:
        with output_errors(folder):
            names = ("*_*/Q.csv", STATISTICS, f"{attention_scores.FOLDER}/*/*.npz")
            taken = sorted(path for name in names for path in folder.glob(name))
        if taken:
            raise SpecError(
                f"{taken[0]}: exists already; replace it with --overwrite, or name "
                "another folder with --output"
            )
    model = _load_network(run, spec, scaling)
    kernels = kernels_of(model)
    initial = _initial(run, kernels)
    _export(run, spec, folder, "INIT", initial, None)
    _export(run, spec, folder, "TRAINED", kernels, initial)
    if cloud is not None:
        prepared = prepare_file(cloud, spec, options.threads, quiet=options.quiet)
        found = measure_kernels(model, prepared, spec, scaling)
        write_json(folder / STATISTICS, found)
        attention_scores.write_scores(
            folder / attention_scores.FOLDER,
            attention_scores.measure_scores(model, prepared, spec, scaling),
            plots=spec.export.plots,
        )


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
    if run.read_receipt().get("network_sha256") not in (
        None,
        _network_hash(run.spec.read_text()),
    ):
        raise DataError(
            f"{run.spec}: is not the spec that {run.model} was trained with; restore "
            "it from a copy. `--set prediction.<key>=<value>` changes how a model "
            "predicts"
        )
    if overrides:
        spec = read_spec(run.spec, overrides, check_files=False).spec
    return spec, scaling


def _network_hash(text: str) -> str:
    """Of all in a run's spec that its model depends on.

    It is taken from what was written then, so that a default that a later
    version adds makes no stranger of an earlier run.
    """
    content = yaml.safe_load(text)
    for free in ("clouds", "prediction", "export"):
        content.pop(free, None)
    return receipt.text_hash(json.dumps(content, sort_keys=True))


def _load_network(run: RunFolder, spec: Spec, scaling: FeatureScaling) -> keras.Model:
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


def _shared(some: Sequence[Path], others: Sequence[Path]) -> list[Path]:
    known = {path.resolve() for path in others}
    return [path for path in some if path.resolve() in known]


def _labelled_only(clouds: list[PreparedCloud]) -> list[PreparedCloud]:
    for cloud in clouds:
        if not np.any(cloud.labels >= 0):
            logger.warning("%s: has no labels; it cannot validate", cloud.name)
    return [cloud for cloud in clouds if np.any(cloud.labels >= 0)]


def _require_same_spec(loaded: LoadedSpec, run: RunFolder) -> None:
    before = run.read_receipt().get("spec_sha256")
    if before != receipt.text_hash(dump_spec(loaded.spec)):
        raise SpecError(
            f"{loaded.path}: differs from the spec that {run.spec} was begun with; "
            f"resume with `{run.spec}`, or start anew with --overwrite or another --run"
        )


def _begin_run(loaded, run, scaling, kernels: list[Kernel]) -> None:
    text = dump_spec(loaded.spec)
    write_json(
        run.receipt,
        {
            **receipt.environment(),
            "spec": str(loaded.path),
            "spec_sha256": receipt.text_hash(text),
            "network_sha256": _network_hash(text),
            "seed": loaded.spec.seed,
            "inputs": receipt.inputs(
                [*loaded.clouds["train"], *loaded.clouds["validation"]]
            ),
        },
    )
    write_text(run.spec, text)
    write_text(run.features, scaling.to_json())
    save_kernels(run.initial_kernels, kernels)
    if loaded.spec.export.kernels:
        _export(run, loaded.spec, run.kernels, "INIT", kernels, None)


def _validator(model, clouds, spec, scaling, options):
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
    inference = Inference(model, spec)

    def validate() -> dict:
        view = inference.view(n_batches)
        counts = sum(
            confusion_matrix(
                cloud.labels,
                predict_cells(view, sweep, cloud.xyz).classes,
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


def _initial(run: RunFolder, kernels: list[Kernel]) -> list[Kernel]:
    return load_kernels(run.initial_kernels, kernels)


def _export_epoch(run: RunFolder, spec: Spec, epoch: int, model) -> None:
    every = spec.export.every if spec.export.kernels else None
    if every and epoch % every == 0:
        kernels = kernels_of(model)
        stage = f"EPOCH_{epoch:03d}"
        _export(run, spec, run.kernels, stage, kernels, _initial(run, kernels))


def _export(run, spec, folder, stage, kernels, before: list[Kernel] | None) -> None:
    past = {kernel.name: kernel.W for kernel in before} if before else None
    facts = {"spec_hash": run.read_receipt()["spec_sha256"]}
    rows = [(kernel.name, kernel.Q, kernel.W, kernel.facts) for kernel in kernels]
    export_model_kernels(
        rows, folder, stage, past=past, extra=facts, plots=spec.export.plots
    )


def _labelled(spec: Spec, folder: Path, outcomes: Sequence[CloudOutcome]):
    for outcome in outcomes:
        pair = read_pair(spec, folder, outcome)
        if np.any(pair.reference >= 0):
            yield pair.name, pair.reference, pair.prediction, pair.confidence
