"""Write the kernels of a run."""

import logging
from collections.abc import Sequence
from pathlib import Path

import keras

from vl3d_lite.dataset import impute_constant_features, prepare_file
from vl3d_lite.evaluation import attention_scores, measure_kernels
from vl3d_lite.kernels import STATISTICS, export_model_kernels
from vl3d_lite.model import (
    LayerKernel,
    kernels_of,
    load_kernels,
    prepare_backend,
)
from vl3d_lite.pipeline.opening import load_network, open_run
from vl3d_lite.runs import Options, RunFolder
from vl3d_lite.spec import Spec
from vl3d_lite.system import (
    Interrupts,
    output_errors,
    real_path,
    require_free,
    safe_point,
    write_json,
)

logger = logging.getLogger(__name__)


def export(
    run: RunFolder, folder: Path, options: Options, cloud: Path | None = None
) -> None:
    """Write the kernels of a run, at initialization and after training.

    The initial kernels are left out where the run does not store them: shipped
    models come without checkpoints.

    Args:
        run: A trained run.
        folder: Where the kernels go.
        options: `threads`, `quiet` and `overwrite`.
        cloud: A cloud to measure on. If given, ``statistics.json`` describes the
            trained kernels and attention heads on its fields, and ``attention/``
            holds the scores of `gqa` blocks.

    Raises:
        SpecError: `folder` holds kernels that `options` does not allow to replace.
        DataError: The run or the cloud cannot be used.
        ResourceError: Another process writes the run that `folder` is in.
        InterruptedRunError: A signal came.
    """
    run.require_model()
    with run.locked_for(folder), Interrupts():
        _export(run, folder, options, cloud)


def _export(run: RunFolder, folder: Path, options: Options, cloud: Path | None) -> None:
    spec, scaling = open_run(run)
    if real_path(folder) != real_path(run.kernels) and not options.overwrite:
        _refuse_existing(folder)
    prepare_backend(spec.seed, options.threads)
    model = load_network(run, spec, scaling)
    kernels = kernels_of(model)
    safe_point(f"{folder}: interrupted; nothing was written")
    initial = None
    if run.initial_kernels.is_file():
        initial = load_kernels(run.initial_kernels, kernels)
        write_kernels(run, spec, folder, "INIT", initial)
    elif kernels:
        logger.warning(
            "%s: the run does not store its initial kernels (%s), so only the trained "
            "kernels are exported; train again to have both",
            run.root,
            run.initial_kernels.relative_to(run.root),
        )
    write_kernels(run, spec, folder, "TRAINED", kernels, initial)
    safe_point(f"{folder}: interrupted; the kernels are written")
    if cloud is not None:
        prepared = prepare_file(cloud, spec, options.threads, quiet=options.quiet)
        impute_constant_features(cloud, prepared, spec, scaling)
        statistics = measure_kernels(model, prepared, spec, scaling)
        write_json(folder / STATISTICS, statistics)
        attention_scores.write_scores(
            folder / attention_scores.FOLDER,
            attention_scores.measure_scores(model, prepared, spec, scaling),
            plots=spec.export.plots,
        )


def _refuse_existing(folder: Path) -> None:
    with output_errors(folder):
        names = ("*_*/Q.csv", STATISTICS, f"{attention_scores.FOLDER}/*/*.npz")
        existing = sorted(path for name in names for path in folder.glob(name))
    for path in existing:
        require_free(path, overwrite=False, remedy="name another folder with --output")


def export_epoch(run: RunFolder, spec: Spec, epoch: int, model: keras.Model) -> None:
    """Write the kernels of a training in progress, every so many epochs.

    Args:
        run: The run folder, which holds the initial kernels.
        spec: Its `export.kernels` and `export.every` decide.
        epoch: Finished epochs.
        model: The network.
    """
    every = spec.export.every if spec.export.kernels else None
    if every and epoch % every == 0:
        kernels = kernels_of(model)
        initial = load_kernels(run.initial_kernels, kernels)
        write_kernels(run, spec, run.kernels, f"EPOCH_{epoch:03d}", kernels, initial)


def write_kernels(
    run: RunFolder,
    spec: Spec,
    folder: Path,
    stage: str,
    kernels: Sequence[LayerKernel],
    initial: Sequence[LayerKernel] | None = None,
) -> None:
    """Write kernels into ``<folder>/<stage>_<layer>``.

    Args:
        run: The run folder; its ``run.json`` identifies the spec.
        spec: Its `export.plots` decides whether plots are drawn.
        folder: The ``kernels`` folder.
        stage: ``INIT``, ``TRAINED`` or ``EPOCH_<number>``.
        kernels: The kernels to write.
        initial: The same kernels before training, to compare with.
    """
    past = {kernel.name: kernel.W for kernel in initial} if initial else None
    facts = {"spec_hash": run.read_provenance()["spec_sha256"]}
    layers = [(kernel.name, kernel.Q, kernel.W, kernel.facts) for kernel in kernels]
    export_model_kernels(
        layers, folder, stage, past=past, extra=facts, plots=spec.export.plots
    )
