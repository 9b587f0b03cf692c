"""Commands that write or read a run: from training to the ensemble of runs."""

import functools
from pathlib import Path
from typing import Annotated

import typer

from vl3d_lite.cli.options import (
    ClassGroups,
    Clouds,
    ClusterOption,
    Overrides,
    Overwrite,
    Quiet,
    Replace,
    Resume,
    RunOption,
    RunPath,
    RunPaths,
    ShardOption,
    SpecPath,
    Threads,
    WorkersOption,
    configure_logging,
    load_pipeline,
    load_spec,
    new_run_folder,
    pipeline_options,
    trained_run,
)
from vl3d_lite.cli.specs import print_plan
from vl3d_lite.cli.terminal import echo
from vl3d_lite.errors import DataError, VL3DError
from vl3d_lite.runs import OUTPUT, RunFolder, is_auto
from vl3d_lite.system import thread_count


def run(
    spec: SpecPath,
    run: RunOption = None,
    set_: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    replace: Replace = False,
    threads: Threads = None,
    quiet: Quiet = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan, as `plan`, and stop.")
    ] = False,
):
    """Train, predict, evaluate and export from one spec."""
    configure_logging(quiet=quiet)
    loaded = load_spec(spec, set_, needs=("train", "predict"))
    if dry_run:
        print_plan(loaded, threads, measure=False)
        return
    folder = new_run_folder(spec, run, resume=resume, overwrite=overwrite)
    options = pipeline_options(
        threads, quiet, resume=resume, overwrite=overwrite, replace=replace
    )
    result = load_pipeline().run(loaded, folder, options)
    _print_outputs(folder)
    if result is not None:
        from vl3d_lite.report import caveat_lines, score_table

        _print_scores("\n" + score_table(result), caveat_lines(result))


def train(
    spec: SpecPath,
    run: RunOption = None,
    set_: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Train the network of a spec into a run folder."""
    configure_logging(quiet=quiet)
    loaded = load_spec(spec, set_, needs=("train",))
    folder = new_run_folder(spec, run, resume=resume, overwrite=overwrite)
    options = pipeline_options(threads, quiet, resume=resume, overwrite=overwrite)
    load_pipeline().train(loaded, folder, options)
    _print_outputs(folder)


def predict(
    run: RunPath,
    clouds: Clouds,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FOLDER",
            help="Folder. Default: RUN/predictions, or predictions for the name of a "
            "shipped model.",
        ),
    ] = None,
    classes: ClassGroups = "",
    set_: Overrides = None,
    shard: ShardOption = None,
    workers: WorkersOption = None,
    cluster: ClusterOption = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    replace: Replace = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Classify clouds with a trained run.

    RUN may be the name of a shipped model (`vl3d-lite models` lists them), or `auto`:
    each cloud is then classified by the shipped model whose domain fits it.

    With --classes "ground, above:1=vegetation+building+other" the prediction merges
    classes of the run. An entry gives the name of the merged class, the code it is
    written as (default: that of its first class), and the classes to merge.
    """
    configure_logging(quiet=quiet)
    from vl3d_lite.clouds import find_listed_clouds

    folder = None if is_auto(run) else trained_run(run)
    options = pipeline_options(
        threads,
        quiet,
        resume=resume,
        overwrite=overwrite,
        replace=replace,
        shard=shard,
        workers=workers,
        cluster=cluster,
    )
    paths = find_listed_clouds(clouds, Path.cwd())
    target = output or (OUTPUT if folder is None else folder.predictions)
    pipeline = load_pipeline()
    classify = pipeline.predict_with_fitting_models
    if folder is not None:
        classify = functools.partial(pipeline.predict, folder)
    from vl3d_lite.report import prediction_text

    outcomes = classify(paths, target, options, set_ or [], classes)
    echo(prediction_text(target, outcomes), nl=False)


def evaluate(
    run: RunPath,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            metavar="FOLDER",
            help="Folder of predicted clouds. Default: RUN/predictions. Scores are "
            "written to the run; those of a shipped model to this folder.",
        ),
    ] = None,
    rotations: Annotated[
        Path | None,
        typer.Option(
            "--rotations",
            metavar="CLOUD",
            help="LAS or LAZ file to rotate; see above.",
            readable=False,
        ),
    ] = None,
    quiet: Quiet = False,
):
    """Score predicted clouds against reference labels.

    With --rotations, rotate a cloud by the angles of the run's `model.symmetry` (C4
    if it has none) and by ten other angles instead, and print how many points keep
    their class with the symmetry and without it.
    """
    configure_logging(quiet=quiet)
    folder = trained_run(run)
    from vl3d_lite.report import caveat_lines, rotation_table, score_table

    pipeline = load_pipeline()
    if rotations is not None:
        options = pipeline_options(None, quiet)
        echo(rotation_table(pipeline.rotations(folder, rotations, options)))
        echo(f"\nrotations  {folder.rotations}")
        return
    clouds = predictions or folder.predictions
    result = pipeline.evaluate(folder, clouds)
    written = folder.scored_in(clouds)
    if result is not None:
        _print_scores(score_table(result), caveat_lines(result))
        echo(f"\nscores  {written.metrics}")
    echo(f"report  {written.report}")


def verify(run: RunPath, threads: Threads = None, quiet: Quiet = False):
    """Check a run against its record and repeat its scores.

    Compare spec, model and inputs with the hashes in run.json, predict the clouds
    again with the settings of the run, by default also with its number of threads,
    and compare predictions and scores. Exit code 0: all are equal; 1: something
    differs; 3: nothing differs, but training clouds are missing and could not be
    compared.
    """
    configure_logging(quiet=quiet)
    folder = trained_run(run)
    pipeline = load_pipeline()
    used = None if threads is None else thread_count(threads)
    found = pipeline.verify(folder, quiet=quiet, threads=used)
    for line in found.lines():
        echo(line)
    if found.differences:
        raise VL3DError(f"{run}: {len(found.differences)} differences")
    if found.absent:
        raise DataError(pipeline.incomplete(folder, found))


def export(
    run: RunPath,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FOLDER", help="Folder. Default: RUN/kernels."
        ),
    ] = None,
    cloud: Annotated[
        Path | None,
        typer.Option(
            "--cloud",
            metavar="CLOUD",
            help="LAS or LAZ file to measure modulations and attention on.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Export the kernels of a run before and after training.

    With --cloud, also write statistics over the fields of that cloud. statistics.json
    holds modulations and neighbor shares by kernel point, and the entropy of
    attention heads. attention/ holds the scores of `gqa` blocks as numbers and
    pictures.
    """
    configure_logging(quiet=quiet)
    folder = trained_run(run)
    options = pipeline_options(threads, quiet, overwrite=overwrite)
    load_pipeline().export(folder, output or folder.kernels, options, cloud)
    echo(f"kernels  {output or folder.kernels}")


def ensemble(
    runs: RunPaths,
    run: Annotated[
        Path, typer.Option("--run", metavar="FOLDER", help="Run folder to write.")
    ],
    overwrite: Overwrite = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Build an ensemble that averages class probabilities.

    The runs must have the same spec, except for seed, training, prediction,
    evaluation, export and clouds. The new run folder is used like any other.
    A prediction costs as much as those of all the runs together.
    """
    configure_logging(quiet=quiet)
    members = [trained_run(path).root for path in runs]
    folder = RunFolder(run)
    options = pipeline_options(threads, quiet, overwrite=overwrite)
    load_pipeline().ensemble(members, folder, options)
    _print_outputs(folder)


def _print_scores(table: str, caveats: list[str]) -> None:
    """Print scores, and in red which of them are not those of a test."""
    echo(table)
    for line in caveats:
        echo(line, color="red")


def _print_outputs(folder: RunFolder) -> None:
    """Print what a run folder holds, a path a line."""
    for name, path in (
        ("model", folder.model),
        ("history", folder.history),
        ("kernels", folder.kernels),
        ("predictions", folder.predictions),
        ("scores", folder.metrics),
        ("report", folder.report),
    ):
        if path.exists():
            echo(f"{name:<12}{path}")
