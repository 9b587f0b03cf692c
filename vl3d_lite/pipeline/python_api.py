"""The commands as Python functions: paths and keywords in, results out."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from vl3d_lite.clouds import find_listed_clouds
from vl3d_lite.errors import SpecError
from vl3d_lite.evaluation import Evaluation
from vl3d_lite.pipeline.auto import predict_with_fitting_models
from vl3d_lite.pipeline.evaluate import evaluate as evaluate_run
from vl3d_lite.pipeline.export import export
from vl3d_lite.pipeline.predict import predict as predict_clouds
from vl3d_lite.pipeline.train import train as train_run
from vl3d_lite.prediction import PredictedCloud
from vl3d_lite.runs import OUTPUT, Options, RunFolder, find_run, is_auto
from vl3d_lite.spec import LoadedSpec, read_spec
from vl3d_lite.system import thread_count

AnyPath = str | Path


def train(
    spec: AnyPath | LoadedSpec,
    run_folder: AnyPath,
    *,
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Train the network that a spec describes, as ``vl3d-lite train`` does.

    Args:
        spec: Path of the YAML file, the name of a shipped config, or what `read_spec`
            returned.
        run_folder: Folder of the run; `train` creates it.
        threads: Processors to use; by default all that the process may use.
        resume: Continue an interrupted training at its last checkpoint.
        overwrite: Replace an existing run.
        quiet: No progress bars.

    Returns:
        The run folder, for `load_run`, `predict` and `evaluate`.

    Raises:
        SpecError: The spec has an error, names no training cloud, or the run
            folder exists and neither `resume` nor `overwrite` is set.
        DataError: A cloud cannot be used.
        ResourceError: Memory or disk space does not suffice.
        DivergedError: The loss is not finite.
        InterruptedRunError: SIGINT or SIGTERM stopped the training; a
            checkpoint is written.

    Example:
        >>> import vl3d_lite
        >>> changes = ["training.epochs=1", "training.steps_per_epoch=2"]
        >>> spec = vl3d_lite.read_spec("town.yaml", changes)
        >>> vl3d_lite.train(spec, "runs/short", quiet=True)
        PosixPath('runs/short')
    """
    if not isinstance(spec, LoadedSpec):
        spec = read_spec(spec, needs=("train",))
    if not spec.clouds.get("train"):
        raise SpecError(
            f"{spec.path}: `clouds.train` must name at least one file; read the spec "
            "with `read_spec(path)`, which looks for the files"
        )
    run = RunFolder(Path(run_folder))
    train_run(spec, run, _options(threads, quiet, resume, overwrite))
    return run.root


def predict(
    run_folder: AnyPath,
    clouds: AnyPath | Sequence[AnyPath],
    output: AnyPath | None = None,
    *,
    class_groups: str = "",
    overrides: Sequence[str] = (),
    threads: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    replace: bool = False,
    quiet: bool = False,
) -> list[PredictedCloud]:
    """Classify LAS files with a trained run, as ``vl3d-lite predict`` does.

    Each output is a copy of its input with the dimensions that
    ``prediction.write`` of the spec names. `load_run` classifies arrays.

    Args:
        run_folder: Folder of a trained run, the name of a shipped model, or
            ``auto``: each cloud then has the shipped model whose domain fits.
        clouds: A file, glob, folder or list (``@tiles.txt``), or several.
        output: Folder of the classified copies; ``predictions`` in the run
            folder by default.
        class_groups: Groups of classes whose probabilities are summed, such as
            ``"ground, above:1=*"``; see ``vl3d-lite predict --help``.
        overrides: Changes of the spec, ``"prediction.<key>=<value>"`` each.
        threads: Processors to use; by default all that the process may use.
        resume: Skip clouds whose outputs are as they would be written now; others
            that exist are an error.
        overwrite: Replace existing outputs; with `resume`, only those others.
        replace: Replace dimensions of the same name in the input.
        quiet: No progress bars.

    Returns:
        One record per cloud, with the file names of its source and its output.

    Raises:
        SpecError: An override or a group is invalid, or an output exists and
            neither `resume` nor `overwrite` is set.
        DataError: The run or a cloud cannot be used. The other clouds are
            predicted all the same.
        ResourceError: Memory does not suffice, or `output` cannot be written.
        InterruptedRunError: SIGINT or SIGTERM stopped the prediction.

    Example:
        >>> import vl3d_lite
        >>> (cloud,) = vl3d_lite.predict("runs/town", "scan.laz", "out", quiet=True)
        >>> cloud.output, cloud.points
        ('scan.laz', 6000)
    """
    classify, target = _classify_with(Path(run_folder))
    patterns = [clouds] if isinstance(clouds, str | Path) else clouds
    return classify(
        find_listed_clouds([str(pattern) for pattern in patterns], Path.cwd()),
        target if output is None else Path(output),
        _options(threads, quiet, resume, overwrite, replace),
        overrides,
        class_groups,
    )


def _classify_with(run_folder: Path) -> tuple[Callable, Path]:
    """What classifies clouds with a run, and the folder of its predictions."""
    if is_auto(run_folder):
        return predict_with_fitting_models, OUTPUT
    run = find_run(run_folder)
    run.require_model()
    return functools.partial(predict_clouds, run), run.predictions


def evaluate(
    run_folder: AnyPath, predictions: AnyPath | None = None
) -> Evaluation | None:
    """Score predicted clouds whose sources have labels, as ``vl3d-lite evaluate`` does.

    Writes ``metrics.json``, ``metrics.csv``, ``disagreements.csv``, plots and
    ``report.html`` into the run folder; for a shipped model into `predictions`.

    Args:
        run_folder: Folder of a trained run, or the name of a shipped model.
        predictions: Folder that `predict` wrote; ``predictions`` in the run
            folder by default.

    Returns:
        The evaluation: ``.scores`` of all clouds together, ``.clouds`` by name,
        ``.caveats`` on clouds that are no independent test.
        None if no source has labels.

    Raises:
        DataError: The run cannot be used, the folder holds no predictions, or a
            file is missing.

    Example:
        >>> import vl3d_lite
        >>> scores = vl3d_lite.evaluate("runs/town").scores
        >>> 0 <= scores.mean_iou <= scores.mean_accuracy <= 1
        True
    """
    run = find_run(Path(run_folder))
    run.require_model()
    return evaluate_run(
        run, run.predictions if predictions is None else Path(predictions)
    )


def export_kernels(
    run_folder: AnyPath,
    output: AnyPath | None = None,
    *,
    cloud: AnyPath | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> Path:
    """Write the convolution kernels of a run, as ``vl3d-lite export`` does.

    Args:
        run_folder: Folder of a trained run, or the name of a shipped model.
        output: Folder of the kernel files; ``kernels`` in the run folder by
            default.
        cloud: A LAS file; if given, ``statistics.json`` describes kernels and
            attention heads on its fields.
        threads: Processors to use; by default all that the process may use.
        overwrite: Replace existing kernel files.
        quiet: No progress bars.

    Returns:
        The folder with one folder per kernel, at initialization (``INIT_...``)
        and after training (``TRAINED_...``).

    Raises:
        SpecError: Kernel files exist in `output` and `overwrite` is not set.
        DataError: The run or the cloud cannot be used.
        ResourceError: `output` cannot be written.

    Example:
        >>> import vl3d_lite
        >>> folder = vl3d_lite.export_kernels("runs/town", "kernels")
        >>> sorted(path.name for path in folder.glob("TRAINED_*"))
        ['TRAINED_kpconvd_1_0', 'TRAINED_kpconvx_0_0']
    """
    run = find_run(Path(run_folder))
    run.require_model()
    folder = run.kernels if output is None else Path(output)
    export(
        run,
        folder,
        _options(threads, quiet, overwrite=overwrite),
        None if cloud is None else Path(cloud),
    )
    return folder


def _options(
    threads: int | None,
    quiet: bool,
    resume: bool = False,
    overwrite: bool = False,
    replace: bool = False,
) -> Options:
    return Options(thread_count(threads), quiet, resume, overwrite, replace)
