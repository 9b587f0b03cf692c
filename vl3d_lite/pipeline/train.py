"""The verbs, one step after the other: the only place where files meet models."""

import contextlib
import functools
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
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
    prepare_file,
    prepare_files,
    prepare_for_training,
)
from vl3d_lite.dataset.prepared import PreparedCloud
from vl3d_lite.errors import DataError, InterruptedRunError, SpecError, VL3DError
from vl3d_lite.evaluation import attention_scores
from vl3d_lite.evaluation.disagreements import (
    Place,
    find_places,
    places_csv,
    summarize_places,
)
from vl3d_lite.evaluation.evaluation import Calibration, Evaluation, Scored
from vl3d_lite.evaluation.evaluation import evaluate as score_clouds
from vl3d_lite.evaluation.kernel_statistics import measure_kernels
from vl3d_lite.evaluation.rotations import RotationReport, measure_rotations
from vl3d_lite.evaluation.scores import Scores, confusion_matrix
from vl3d_lite.kernels.export import export_model_kernels
from vl3d_lite.kernels.page import STATISTICS
from vl3d_lite.model.backend import (
    Inference,
    load_model,
    prepare_backend,
    require_flash_attention,
    save_model,
    uses_accelerator,
)
from vl3d_lite.model.kernels import Kernel, kernels_of, load_kernels, save_kernels
from vl3d_lite.model.network import build_network
from vl3d_lite.prediction.calibration import Temperature, fit_temperature
from vl3d_lite.prediction.class_groups import fold_spec
from vl3d_lite.prediction.classifier import Classifier, Options, Voted, fill_missing
from vl3d_lite.prediction.outcomes import (
    CloudOutcome,
    Outputs,
    check_additions,
    class_column,
    read_outcomes,
    read_pair,
)
from vl3d_lite.prediction.votes import predict_cells
from vl3d_lite.report.color_files import write_color_files
from vl3d_lite.report.run_page import write_run_report
from vl3d_lite.runs import provenance as receipt
from vl3d_lite.runs.folder import RunFolder, output_errors, write_json, write_text
from vl3d_lite.spec.reader import LoadedSpec, dump_spec, read_spec
from vl3d_lite.spec.schema.spec import PredictionSpec, Spec
from vl3d_lite.system.background import LookAhead
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.system.resources import peak_memory
from vl3d_lite.training.initial_weights import require_same_features, take_weights
from vl3d_lite.training.loop import class_weights, fit, require_tensorboard
from vl3d_lite.training.memory import SURE, fits_beside, require_memory_for, size_of

logger = logging.getLogger(__name__)

GO_ON = "interrupted; go on with the other clouds by --resume"


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
        if spec.training.start_from is not None:
            run.require_apart([RunFolder(Path(spec.training.start_from)).model])
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
            _export(run, spec, run.kernels, "TRAINED", kernels, _initial(run, kernels))
        save_model(model, run.model)
        run.update_receipt(
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
        fill_missing(path, cloud, spec, scaling)
    return sources


def network_facts(run: RunFolder, model: keras.Model) -> dict:
    """What a receipt says of a network, once its files are written."""
    return {
        "files": {
            path.name: receipt.file_hash(path)
            for path in (run.model, run.features, run.calibration)
        },
        "weights_sha256": receipt.array_hash(
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
    if spec.training.start_from is None:
        return None
    run = RunFolder(Path(spec.training.start_from))
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


def predict(
    run: RunFolder,
    paths: Sequence[Path],
    folder: Path,
    options: Options,
    overrides: Sequence[str] = (),
    classes: str = "",
) -> list[CloudOutcome]:
    """Classify clouds with a trained run; write them into `folder`.

    One bad cloud does not stop the others. `overrides` change ``prediction.*``
    of the run's spec; `classes` joins its classes, as `fold_spec` reads it.

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
    temperature = open_calibration(run, spec)
    if classes:
        fold_spec(spec, classes)  # complains before anything is done
    outputs = Outputs(folder, paths, resume=options.resume, overwrite=options.overwrite)
    if not outputs.remaining:
        return list(outputs.outcomes.values())
    prepare_backend(spec.seed, options.threads)
    inference = Inference(load_network(run, spec, scaling), spec)
    outputs.require_writable()
    with Interrupts() as interrupts:
        classifier = Classifier(
            inference, spec, scaling, options, interrupts, temperature, classes
        )
        troubles = _predict_all(classifier, outputs)
    if outputs.outcomes and class_column(spec):
        shown = fold_spec(spec, classes)[0] if classes else spec
        write_color_files(folder, shown, class_column(spec))
    if troubles:
        first = troubles[0]
        first.args = (
            f"{len(troubles)} of {len(paths)} clouds were not predicted: {first}",
        )
        raise first
    return list(outputs.outcomes.values())


def _predict_all(classifier: Classifier, outputs: Outputs) -> list[VL3DError]:
    """Predict clouds and record what became of them.

    With several threads the next cloud is read, and the last one written, while the
    network works on this one.

    Returns:
        The troubles of clouds that failed, all but the first of which are logged.
    """
    spec, interrupts = classifier.spec, classifier.interrupts
    beside = classifier.options.threads > 1
    keys = [
        (path, grid)
        for path in outputs.remaining
        for grid in range(spec.prediction.grids)
    ]
    troubles: list[VL3DError] = []
    writing: list[Future] = []

    def note(error: VL3DError) -> None:
        if troubles:
            logger.error("%s", error)
        troubles.append(_let_go(error))

    def settle(pending: int = 0) -> None:
        while len(writing) > pending:
            try:
                writing.pop(0).result()
            except InterruptedRunError:
                raise
            except VL3DError as error:
                note(error)

    def record(path: Path, voted: Voted) -> None:
        outputs.record(classifier.write(path, outputs.targets[path], voted))

    def take(path: Path, grid: int) -> SweepBatches:
        return sweeps.take((path, grid))

    with LookAhead(
        lambda key: classifier.sweep(*key),
        keys,
        lambda key: beside and fits_beside(key[0], spec),
    ) as sweeps:
        try:
            for path in outputs.remaining:
                try:
                    work = functools.partial(record, path, classifier.vote(path, take))
                    # Once it is to stop, nothing waits behind the next cloud.
                    if beside and interrupts.received is None:
                        writing.append(sweeps.later(work))
                    else:
                        settle()
                        work()
                except InterruptedRunError:
                    raise
                except VL3DError as error:
                    settle()
                    note(error)
                work = None  # it holds the votes
                settle(pending=1)
                interrupts.check(GO_ON)
            settle()
            interrupts.check(GO_ON)
        except BaseException as error:
            with contextlib.suppress(InterruptedRunError):
                settle()
            if isinstance(error, InterruptedRunError):
                for trouble in troubles[:1]:  # the others are told
                    logger.error("%s", trouble)
            raise
    return troubles


def _let_go(error: VL3DError) -> VL3DError:
    """An error without the frames that hold the arrays of its cloud."""
    one: BaseException | None = error
    while one is not None:
        one.__traceback__ = None
        one = one.__cause__ or one.__context__
    return error


def evaluate(run: RunFolder, folder: Path) -> Evaluation | None:
    """Score the predictions in `folder` whose sources carry labels.

    Writes ``metrics.json``, ``metrics.csv``, ``disagreements.csv``, plots and
    ``report.html`` into the run folder; beside the predictions where the run is a
    shipped model (`RunFolder.scored_in`).

    Returns:
        The scores; None where no source carries a label.

    Raises:
        DataError: There are no predictions, or a file of one is gone.
    """
    spec, _ = open_run(run)
    outcomes = read_outcomes(folder)
    spec = predicted_spec(spec, folder, outcomes)
    if not outcomes:
        raise DataError(
            f"{folder}: holds no predictions; make some with `vl3d-lite predict`"
        )
    result, places = score(spec, folder, outcomes)
    target = run.scored_in(folder)
    if result is None:
        logger.info("no cloud carries labels; there is nothing to score")
        with output_errors(target.report.parent):
            for stale in (
                target.metrics,
                target.scores,
                target.disagreements,
                target.confusion_plot,
            ):
                stale.unlink(missing_ok=True)
    else:
        write_json(target.metrics, metrics(result, places, spec))
        result.write_csv(target.scores)
        write_text(target.disagreements, places_csv(places))
    if target is run:
        run.update_receipt(evaluated=_relative(folder, run))
    write_run_report(target, spec, result, folder, outcomes, places)
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
    model = load_network(run, spec, scaling)
    prepared = prepare_file(cloud, spec, options.threads, quiet=options.quiet)
    fill_missing(cloud, prepared, spec, scaling)
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


def score(
    spec: Spec, folder: Path, outcomes: Sequence[CloudOutcome]
) -> tuple[Evaluation | None, list[Place]]:
    """Scores of predicted clouds, and where they disagree with their references.

    Returns:
        None for the scores where no source carries a label.
    """
    places: list[Place] = []
    result = score_clouds(_labelled(spec, folder, outcomes, places), spec.class_names)
    places.sort(key=lambda place: -place.points)
    return result if result.clouds else None, places


def metrics(result: Evaluation, places: Sequence[Place], spec: Spec) -> dict:
    """What ``metrics.json`` holds."""
    return {**result.to_dict(), "disagreements": summarize_places(places, spec)}


def predicted_spec(spec: Spec, folder: Path, outcomes: Sequence[CloudOutcome]) -> Spec:
    """The spec whose classes the predictions hold: joined, where they were.

    Raises:
        DataError: The classes of some were joined in another way.
    """
    ways = {outcome.classes for outcome in outcomes}
    if len(ways) > 1:
        raise DataError(
            f"{folder}: its clouds were predicted with different --classes "
            f"({', '.join(way or 'none' for way in sorted(ways))}); predict them alike "
            "with --overwrite, or into folders of their own"
        )
    way = ways.pop() if ways else ""
    return fold_spec(spec, way)[0] if way else spec


def repeat_predictions(
    run: RunFolder, outcomes: Sequence[CloudOutcome], folder: Path, quiet: bool
) -> list[CloudOutcome]:
    """Predict clouds anew, each with the settings it was predicted with.

    Args:
        run: A trained run.
        outcomes: As ``predictions.json`` has them; the sources are at hand.
        folder: Where the clouds are written.
        quiet: No progress bars.
    """
    spec, scaling = open_run(run)
    prepare_backend(spec.seed, max(outcome.threads for outcome in outcomes))
    model = load_network(run, spec, scaling)
    repeated = []
    with Interrupts() as interrupts:
        for outcome in outcomes:
            jit = "on" if outcome.xla else "off"
            again = spec.model_copy(
                update={
                    "prediction": PredictionSpec(**outcome.settings),
                    "training": spec.training.model_copy(update={"jit": jit}),
                }
            )
            classifier = Classifier(
                Inference(model, again),
                again,
                scaling,
                # What replaced a dimension then replaces it again.
                Options(threads=outcome.threads, quiet=quiet, replace=True),
                interrupts,
                open_calibration(run, again),
                outcome.classes,
            )
            source = Path(outcome.source)
            voted = classifier.vote(source)
            repeated.append(classifier.write(source, folder / outcome.output, voted))
    return repeated


def _relative(folder: Path, run: RunFolder) -> str:
    """A path that stays right when the run is moved, if the folder lies in it."""
    folder, root = folder.resolve(), run.root.resolve()
    return str(folder.relative_to(root) if root in folder.parents else folder)


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
    model = load_network(run, spec, scaling)
    kernels = kernels_of(model)
    initial = _initial(run, kernels)
    _export(run, spec, folder, "INIT", initial, None)
    _export(run, spec, folder, "TRAINED", kernels, initial)
    if cloud is not None:
        prepared = prepare_file(cloud, spec, options.threads, quiet=options.quiet)
        fill_missing(cloud, prepared, spec, scaling)
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
        receipt.network_hash(run.spec.read_text()),
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
            "accelerator": uses_accelerator(),
            "spec": str(loaded.path),
            "spec_sha256": receipt.text_hash(text),
            "network_sha256": receipt.network_hash(text),
            "seed": loaded.spec.seed,
            **_started_from(loaded.spec),
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


def _started_from(spec: Spec) -> dict:
    if spec.training.start_from is None:
        return {}
    model = RunFolder(Path(spec.training.start_from)).model
    return {
        "started_from": {
            "model": str(model),
            "sha256": receipt.file_hash(model),
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
            yield voted.prediction.probabilities, voted.row_of_point, voted.labels

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


def _labelled(
    spec: Spec, folder: Path, outcomes: Sequence[CloudOutcome], places: list[Place]
):
    """Predicted clouds that can be scored; `places` gets their disagreements."""
    for outcome in outcomes:
        pair = read_pair(spec, folder, outcome)
        if np.any(pair.reference >= 0):
            before = outcome.uncalibrated
            places += find_places(
                pair.name,
                pair.xyz,
                pair.reference,
                pair.prediction,
                pair.confidence,
                spec.class_names,
                origin=pair.origin,
                distance=spec.place_distance,
                confident=spec.evaluation.confident,
                points=spec.evaluation.points,
            )
            yield Scored(
                pair.name,
                pair.reference,
                pair.prediction,
                pair.confidence,
                Calibration.from_dict(before) if before else None,
                pair.sure,
            )
