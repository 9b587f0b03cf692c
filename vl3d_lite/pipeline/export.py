"""Write the kernels of a run."""

from pathlib import Path

from vl3d_lite.dataset.files import (
    prepare_file,
)
from vl3d_lite.dataset.scaling import impute_constant_features
from vl3d_lite.errors import SpecError
from vl3d_lite.evaluation import attention_scores
from vl3d_lite.evaluation.kernel_statistics import measure_kernels
from vl3d_lite.kernels.export import export_model_kernels
from vl3d_lite.kernels.page import STATISTICS
from vl3d_lite.model.kernels import Kernel, kernels_of, load_kernels
from vl3d_lite.pipeline.opening import load_network, open_run
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.system.writing import output_errors, write_json


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
    initial = initial_kernels(run, kernels)
    write_kernels(run, spec, folder, "INIT", initial, None)
    write_kernels(run, spec, folder, "TRAINED", kernels, initial)
    if cloud is not None:
        prepared = prepare_file(cloud, spec, options.threads, quiet=options.quiet)
        impute_constant_features(cloud, prepared, spec, scaling)
        found = measure_kernels(model, prepared, spec, scaling)
        write_json(folder / STATISTICS, found)
        attention_scores.write_scores(
            folder / attention_scores.FOLDER,
            attention_scores.measure_scores(model, prepared, spec, scaling),
            plots=spec.export.plots,
        )


def initial_kernels(run: RunFolder, kernels: list[Kernel]) -> list[Kernel]:
    return load_kernels(run.initial_kernels, kernels)


def write_kernels(
    run, spec, folder, stage, kernels, before: list[Kernel] | None
) -> None:
    past = {kernel.name: kernel.W for kernel in before} if before else None
    facts = {"spec_hash": run.read_provenance()["spec_sha256"]}
    rows = [(kernel.name, kernel.Q, kernel.W, kernel.facts) for kernel in kernels]
    export_model_kernels(
        rows, folder, stage, past=past, extra=facts, plots=spec.export.plots
    )
