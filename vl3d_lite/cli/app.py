"""The command line: verbs, exit codes, and messages without traces."""

import json
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from vl3d_lite.errors import (
    DataError,
    InterruptedRunError,
    ResourceError,
    SpecError,
    VL3DError,
)
from vl3d_lite.system.resources import cpu_limit
from vl3d_lite.system.stderr import silenced_stderr

EPILOG = (
    "Exit codes: 0 done, 1 a bug of ours or a failed verification, 2 usage or spec, "
    "3 input data or model folder, 4 memory, disk or an output that cannot be written, "
    "5 training diverged, 130 and 143 interrupted."
)
app = typer.Typer(
    help="LAS point clouds in, classified LAS point clouds out.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# What cannot be read is told by who reads it, with the exit code of input data.
SpecPath = Annotated[
    Path, typer.Argument(metavar="SPEC", help="The YAML spec.", readable=False)
]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run folder.", readable=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value of the spec."),
]
RunOption = Annotated[
    Path | None,
    typer.Option("--run", help="The run folder; runs/<name of the spec> by default."),
]
Resume = Annotated[bool, typer.Option(help="Go on with what was interrupted.")]
Overwrite = Annotated[bool, typer.Option(help="Replace what lies there.")]
Replace = Annotated[
    bool, typer.Option(help="Replace dimensions of the same name in the input.")
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, help="Processors to use; all this process may use by default."),
]
Quiet = Annotated[bool, typer.Option(help="No progress bars, only errors.")]


@app.command(epilog="Example: vl3d-lite run configs/quickstart.yaml")
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
        bool, typer.Option("--dry-run", help="Only tell what it would do, as `plan`.")
    ] = False,
):
    """Train, predict, evaluate and export what a spec describes."""
    _set_up(quiet)
    loaded = _read(spec, set_, needs=("train", "predict"))
    if dry_run:
        _tell_plan(loaded, threads, probe=False)
        return
    folder = _run_folder(spec, run, resume, overwrite)
    pipeline, options = _pipeline(threads, quiet, resume, overwrite, replace)
    result = pipeline.run(loaded, folder, options)
    _tell_run(folder)
    if result is not None:
        typer.echo("\n" + result.table())


@app.command(epilog="Example: vl3d-lite check spec.yaml --set fields.radius=15")
def check(
    spec: SpecPath,
    set_: Overrides = None,
    files: Annotated[
        bool, typer.Option(help="Look at the clouds: headers, dimensions, class codes.")
    ] = True,
):
    """Check a spec and the clouds it names; train nothing."""
    _set_up(quiet=False)
    loaded = _read(spec, set_, needs=(), check_files=files)
    if files:
        from vl3d_lite.dataset.files import check_clouds

        troubles = []
        for group in ("train", "validation", "predict"):
            try:
                check_clouds(loaded.clouds[group], loaded.spec, census=group == "train")
            except DataError as error:
                troubles.append(str(error))
        if troubles:
            raise DataError("\n".join(troubles))
    counts = ", ".join(f"{len(paths)} {name}" for name, paths in loaded.clouds.items())
    typer.echo(f"{spec}: good ({counts or 'no'} clouds)")


@app.command(epilog="Example: vl3d-lite plan spec.yaml --set training.batch_size=8")
def plan(
    spec: SpecPath,
    set_: Overrides = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Time some steps of the training: a minute or so."
        ),
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Tell what a run will do and cost, and what a colleague would warn of.

    Reads the training and validation clouds and trains nothing. A run that will not
    fit into memory is refused with exit code 4 and the settings that bring it down.
    """
    _set_up(quiet)
    _tell_plan(_read(spec, set_, needs=("train",)), threads, probe)


@app.command(epilog="Example: vl3d-lite init scans/*.laz --output town.yaml")
def init(
    clouds: Annotated[
        list[str],
        typer.Argument(metavar="CLOUD...", help="Labelled files, globs or folders."),
    ],
    output: Annotated[Path, typer.Option(help="The spec to write.")] = Path(
        "spec.yaml"
    ),
    split_into: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the blocks of clouds that must be cut; <spec>_blocks "
            "beside the spec by default."
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
):
    """Look at labelled clouds and write a commented spec that trains on them.

    Of several labelled clouds one validates, less what borders on the others; a
    single one is cut into two blocks apart in space. Blocks are new files. Clouds
    without labels are predicted.
    """
    _set_up(quiet)
    from vl3d_lite.clouds.files import find_clouds
    from vl3d_lite.guide.init import init as guide

    guide.init(
        find_clouds(clouds, Path.cwd()),
        output,
        split_into=split_into,
        overwrite=overwrite,
    )
    typer.echo(f"{output}: written; next: vl3d-lite plan {output}")


@app.command(epilog="Example: vl3d-lite train spec.yaml --run runs/town --resume")
def train(
    spec: SpecPath,
    run: RunOption = None,
    set_: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Train the network a spec describes; leave it in a run folder."""
    _set_up(quiet)
    loaded = _read(spec, set_, needs=("train",))
    folder = _run_folder(spec, run, resume, overwrite)
    pipeline, options = _pipeline(threads, quiet, resume, overwrite)
    pipeline.train(loaded, folder, options)
    _tell_run(folder)


@app.command(epilog="Example: vl3d-lite predict runs/town scans/*.laz --output out/")
def predict(
    run: RunPath,
    clouds: Annotated[
        list[str], typer.Argument(metavar="CLOUD...", help="Files, globs or folders.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="Folder; RUN/predictions by default.")
    ] = None,
    classes: Annotated[
        str,
        typer.Option(
            metavar="NAME[:CODE]=CLASS+CLASS,...",
            help="Join classes: their probabilities are summed; `*` is all others.",
        ),
    ] = "",
    set_: Overrides = None,
    resume: Resume = False,
    overwrite: Overwrite = False,
    replace: Replace = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Classify clouds with a trained run.

    With --classes "ground, above:1=vegetation+building+other" classes of the run are
    joined: a name, the code it is written as (that of the first class otherwise), and
    the classes it joins.
    """
    _set_up(quiet)
    from vl3d_lite.clouds.files import find_clouds
    from vl3d_lite.runs.folder import RunFolder

    folder = RunFolder(run)
    folder.require_model()
    paths = find_clouds(clouds, Path.cwd())
    pipeline, options = _pipeline(threads, quiet, resume, overwrite, replace)
    target = output or folder.predictions
    outcomes = pipeline.predict(folder, paths, target, options, set_ or [], classes)
    for outcome in outcomes:
        typer.echo(
            f"{target / outcome.output}: {outcome.voted:,} points by votes, "
            f"{outcome.nearest:,} from the nearest voted cell"
        )


@app.command(epilog="Example: vl3d-lite evaluate runs/town")
def evaluate(
    run: RunPath,
    predictions: Annotated[
        Path | None,
        typer.Option(
            help="Folder of predicted clouds; RUN/predictions by default. Scores go "
            "into the run, those of a shipped model into that folder."
        ),
    ] = None,
    rotations: Annotated[
        Path | None,
        typer.Option(
            metavar="CLOUD", help="A LAS file to turn; see above.", readable=False
        ),
    ] = None,
    quiet: Quiet = False,
):
    """Score predicted clouds against the labels of their sources.

    With --rotations instead: turn that cloud by the angles of the run's
    `model.symmetry` (C4 where it has none) and by ten others, and tell how many
    points keep their class, with the symmetry and without.
    """
    _set_up(quiet)
    from vl3d_lite.runs.folder import RunFolder

    folder = RunFolder(run)
    folder.require_model()
    if rotations is not None:
        pipeline, options = _pipeline(None, quiet)
        typer.echo(pipeline.rotations(folder, rotations, options).table())
        typer.echo(f"\nrotations  {folder.rotations}")
        return
    pipeline, _ = _pipeline(None, quiet)
    clouds = predictions or folder.predictions
    result = pipeline.evaluate(folder, clouds)
    written = folder.scored_in(clouds)
    if result is not None:
        typer.echo(result.table())
        typer.echo(f"\nscores  {written.metrics}")
    typer.echo(f"report  {written.report}")


@app.command(epilog="Example: vl3d-lite verify runs/town")
def verify(run: RunPath, quiet: Quiet = False):
    """Check what a run was made from, and repeat its evaluation.

    Spec, model and inputs are held against the hashes in run.json, the clouds are
    predicted anew with the settings they were predicted with, and predictions and
    scores are compared. Exit code 0 only if all is equal, 1 if something differs, 3 if
    nothing does and clouds of the training are not here to be compared.
    """
    _set_up(quiet)
    from vl3d_lite.runs.folder import RunFolder

    folder = RunFolder(run)
    folder.require_model()
    with silenced_stderr():
        from vl3d_lite.pipeline.verify import incomplete
        from vl3d_lite.pipeline.verify import verify as verify_run

    found = verify_run(folder, quiet=quiet)
    for line in found.lines():
        typer.echo(line)
    if found.differences:
        raise VL3DError(f"{run}: {len(found.differences)} differences")
    if found.absent:
        raise DataError(incomplete(folder, found))


@app.command(epilog="Example: vl3d-lite export runs/town --output kernels/")
def export(
    run: RunPath,
    output: Annotated[
        Path | None, typer.Option(help="Folder; RUN/kernels by default.")
    ] = None,
    cloud: Annotated[
        Path | None,
        typer.Option(help="A LAS file to measure modulations and attention on."),
    ] = None,
    overwrite: Overwrite = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Write the kernels of a run, at initialization and after training.

    With --cloud also statistics.json: modulations and influence coverage by kernel
    point, and the entropy of attention heads, over fields of that cloud; and where the
    network has `gqa` blocks attention/: their scores as numbers and pictures.
    """
    _set_up(quiet)
    from vl3d_lite.runs.folder import RunFolder

    folder = RunFolder(run)
    folder.require_model()
    pipeline, options = _pipeline(threads, quiet, overwrite=overwrite)
    pipeline.export(folder, output or folder.kernels, options, cloud)
    typer.echo(f"kernels  {output or folder.kernels}")


@app.command(epilog="Example: vl3d-lite inspect runs/town --html kernels.html")
def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            help="A kernel folder, a run, a model or a LAS file.", readable=False
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(help="Also write a page with an interactive view of the kernels."),
    ] = None,
    overwrite: Overwrite = False,
):
    """Say what a kernel folder, a run, a model or a LAS file holds."""
    _set_up(quiet=False)
    from vl3d_lite.report import inspection
    from vl3d_lite.runs.folder import RunFolder
    from vl3d_lite.system.writing import write_text

    if html is not None and html.exists() and not overwrite:
        raise SpecError(
            f"{html}: exists already; replace it with --overwrite, or name another file"
        )
    typer.echo(inspection.describe(path))
    if html is not None:
        kernels = RunFolder(path).kernels
        page = inspection.kernel_page(kernels if kernels.is_dir() else path)
        write_text(html, page)
        typer.echo(f"\npage  {html}")


@app.command(epilog="Example: vl3d-lite convert VL3D.json --output town.yaml")
def convert(
    source: Annotated[
        Path,
        typer.Argument(metavar="VL3D", help="A spec of VL3D, as JSON.", readable=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="The spec to write; VL3D's name with .yaml by default."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
):
    """Translate a spec of VL3D that trains a network.

    What was chosen, replaced or dropped, and why, is told and stands in the spec as
    comments.
    """
    _set_up(quiet)
    from vl3d_lite.guide.vl3d.convert import convert as translate
    from vl3d_lite.system.writing import write_text

    target = output or Path(f"{source.stem}.yaml")
    if target.exists() and not overwrite:
        raise SpecError(
            f"{target}: exists already; replace it with --overwrite, or name another "
            "file with --output"
        )
    conversion = translate(source)
    write_text(target, conversion.text())
    if not quiet:
        typer.echo(conversion.report(), err=True)
    try:
        _read(target, None, needs=(), check_files=False)
    except SpecError as error:
        raise SpecError(
            f"{target}: written, but it needs your hand:\n{error}"
        ) from None
    typer.echo(f"spec  {target}")


@app.command(epilog="Example: vl3d-lite doctor > doctor.txt")
def doctor():
    """Say what works here: versions, GPUs, memory, and a small training.

    Exit code 0 only if training works; what does not is told with its remedy.
    """
    _set_up(quiet=False)
    from vl3d_lite.guide.doctor import describe, examine, works

    findings = examine()
    typer.echo(describe(findings))
    if not works(findings):
        raise typer.Exit(1)


@app.command(epilog="Example: vl3d-lite compare runs/a runs/b --output ab.html")
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders.", readable=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option(help="Also write a file: .html, .csv or .md."),
    ] = None,
    overwrite: Overwrite = False,
):
    """Lay runs side by side: where specs differ, scores and costs.

    The best score of a row has a star.
    """
    _set_up(quiet=False)
    from vl3d_lite.report.comparison import compare as lay_side_by_side
    from vl3d_lite.report.comparison_pages import as_text, writer_of
    from vl3d_lite.system.writing import write_text

    write = writer_of(output) if output is not None else None
    if output is not None and output.exists() and not overwrite:
        raise SpecError(
            f"{output}: exists already; replace it with --overwrite, or name another "
            "file"
        )
    comparison = lay_side_by_side(runs)
    typer.echo(as_text(comparison), nl=False)
    if output is not None and write is not None:
        write_text(output, write(comparison))
        typer.echo(f"\npage  {output}")


@app.command(epilog="Example: vl3d-lite combine runs/a runs/b --run runs/both")
def combine(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders.", readable=False),
    ],
    run: Annotated[Path, typer.Option("--run", help="The run folder to write.")],
    overwrite: Overwrite = False,
    threads: Threads = None,
    quiet: Quiet = False,
):
    """Make one network of several: the mean of what runs with other seeds say.

    The runs must have one spec, but for their seed, training, prediction, evaluation,
    export and clouds. The new run folder is used as any other; predicting with it costs
    as much as with all of the runs together.
    """
    _set_up(quiet)
    from vl3d_lite.runs.folder import RunFolder

    for path in runs:
        RunFolder(path).require_model()
    _, options = _pipeline(threads, quiet, overwrite=overwrite)
    from vl3d_lite.pipeline.ensemble import combine as combine_runs

    folder = RunFolder(run)
    combine_runs(runs, folder, options)
    _tell_run(folder)


@app.command(epilog="Example: vl3d-lite schema > spec.schema.json")
def schema():
    """Print the JSON schema of specs, for editors to complete from."""
    from vl3d_lite.spec.reader import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def main() -> None:
    """Run the command line and leave with the documented exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except VL3DError as error:
        _leave(str(error), error.exit_code)
    except PermissionError as error:
        _leave(
            f"{error.filename}: {error.strerror}; check the permissions, or name "
            "another file or folder",
            ResourceError.exit_code,
        )
    except KeyboardInterrupt:
        _leave("interrupted; nothing half-written is left", 130)
    except Exception as error:
        # TensorFlow's own kind is known by name: it is not imported for this.
        kinds = {kind.__name__ for kind in type(error).__mro__}
        if not kinds & {"MemoryError", "ResourceExhaustedError"}:
            raise
        _leave(
            "memory ran out; lower `training.batch_size` or predict smaller tiles",
            ResourceError.exit_code,
        )


def _terminated(_number, _frame):
    raise InterruptedRunError("terminated; nothing half-written is left", 143)


def _leave(message: str, code: int):
    typer.echo(message, err=True)
    sys.exit(code)


def _set_up(quiet: bool) -> None:
    logging.basicConfig(
        level=logging.ERROR if quiet else logging.INFO,
        format="%(message)s",
        stream=sys.stderr,
        force=True,
    )
    for noisy in ("h5py", "absl", "matplotlib", "jax"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def _read(spec, overrides, *, needs, check_files=True):
    from vl3d_lite.spec.reader import read_spec

    return read_spec(spec, overrides or (), check_files=check_files, needs=needs)


def _tell_plan(loaded, threads, probe):
    from vl3d_lite.guide.plan.plan import plan
    from vl3d_lite.guide.plan.text import plan_text
    from vl3d_lite.system.resources import has_gpu

    found = plan(
        loaded, threads=threads or cpu_limit(), accelerator=has_gpu(), probe=probe
    )
    typer.echo(plan_text(found), nl=False)


def _run_folder(spec, run, resume, overwrite):
    from vl3d_lite.runs.folder import RunFolder

    if resume and overwrite:
        raise SpecError("--resume and --overwrite exclude each other; give one")
    folder = RunFolder(run or Path("runs") / spec.stem)
    folder.refuse_if_present(resume=resume, overwrite=overwrite)
    return folder


def _pipeline(threads, quiet, resume=False, overwrite=False, replace=False):
    """The slow import, after everything that can be refused was."""
    with silenced_stderr():
        from vl3d_lite import pipeline
        from vl3d_lite.runs.options import Options

    options = Options(
        threads=threads or cpu_limit(),
        quiet=quiet,
        resume=resume,
        overwrite=overwrite,
        replace=replace,
    )
    return pipeline, options


def _tell_run(folder):
    for name, path in (
        ("model", folder.model),
        ("history", folder.history),
        ("kernels", folder.kernels),
        ("predictions", folder.predictions),
        ("scores", folder.metrics),
        ("report", folder.report),
    ):
        if path.exists():
            typer.echo(f"{name:<12}{path}")
