"""The command line: commands with their examples, exit codes, errors without traces."""

import errno
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from vl3d_lite.cli import looks, runs, specs
from vl3d_lite.cli.terminal import echo_error, output_error, prepare_streams
from vl3d_lite.errors import DataError, InterruptedRunError, ResourceError, VL3DError
from vl3d_lite.system import __version__, is_out_of_memory, safe_point

NAME = "vl3d-lite"
EPILOG = (
    "Exit codes: 0 success, 1 internal error or failed verification, 2 usage or spec, "
    "3 input data or model folder, 4 memory, disk or an output that cannot be written, "
    "5 diverged training, 130 and 143 interrupted."
)
OUT_OF_MEMORY = (
    "out of memory; close other programs, raise the limit, lower "
    "`training.batch_size`, or predict smaller tiles"
)
# A function, whose docstring is its help, and two examples, which a test parses.
COMMANDS: tuple[tuple[Callable, str, str], ...] = (
    (
        runs.run,
        "vl3d-lite run configs/quickstart.yaml",
        "vl3d-lite run town.yaml --run runs/town --resume",
    ),
    (
        specs.check,
        "vl3d-lite check town.yaml --set fields.radius=15",
        "vl3d-lite check town.yaml --no-files",
    ),
    (
        specs.plan,
        "vl3d-lite plan town.yaml --set training.batch_size=8",
        "vl3d-lite plan town.yaml --measure",
    ),
    (
        specs.init,
        "vl3d-lite init scans/*.laz --output town.yaml",
        "vl3d-lite init scan.laz --split-into blocks/",
    ),
    (
        runs.train,
        "vl3d-lite train town.yaml --run runs/town",
        "vl3d-lite train town.yaml --set training.epochs=40 --overwrite",
    ),
    (
        runs.predict,
        "vl3d-lite predict als_dense scans/*.laz --output out/",
        "vl3d-lite predict runs/town @tiles.txt --workers 4",
    ),
    (
        runs.evaluate,
        "vl3d-lite evaluate runs/town --predictions out/",
        "vl3d-lite evaluate runs/town --rotations scan.laz",
    ),
    (
        runs.verify,
        "vl3d-lite verify runs/town",
        "vl3d-lite verify models/als_dense --quiet",
    ),
    (
        runs.export,
        "vl3d-lite export runs/town --output kernels/",
        "vl3d-lite export runs/town --cloud scan.laz --overwrite",
    ),
    (
        looks.models,
        "vl3d-lite models",
        "vl3d-lite models | less",
    ),
    (
        looks.cache,
        "vl3d-lite cache",
        "vl3d-lite cache --folder scratch/cache --clear",
    ),
    (
        looks.inspect,
        "vl3d-lite inspect scan.laz",
        "vl3d-lite inspect runs/town --html kernels.html",
    ),
    (
        specs.convert,
        "vl3d-lite convert VL3D.json",
        "vl3d-lite convert VL3D.json --output town.yaml --overwrite",
    ),
    (
        looks.doctor,
        "vl3d-lite doctor",
        "vl3d-lite doctor > doctor.txt",
    ),
    (
        looks.compare,
        "vl3d-lite compare runs/a runs/b",
        "vl3d-lite compare runs/* --output comparison.html",
    ),
    (
        runs.ensemble,
        "vl3d-lite ensemble runs/a runs/b --run runs/both",
        "vl3d-lite ensemble runs/seed_* --run runs/mean --overwrite",
    ),
    (
        specs.schema,
        "vl3d-lite schema > spec.schema.json",
        "vl3d-lite schema | less",
    ),
)


class _Command(TyperCommand):
    """A command whose help names arguments by their metavars alone.

    Some versions of Typer add a type to them: ``CLOUD <list[str]>``.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        records: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                name, text = record
                if param.param_type_name == "argument":
                    name = param.metavar or name
                records[param.param_type_name].append((name, text))
        for kind, rows in records.items():
            if rows:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(rows)


app = typer.Typer(
    help="Classify LAS and LAZ point clouds.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _function, *_examples in COMMANDS:
    # `\b` keeps the lines of a paragraph apart.
    _epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in _examples)])
    app.command(cls=_Command, epilog=_epilog)(_function)
    if _function is runs.ensemble:  # its name until version 0.1
        app.command("combine", hidden=True, cls=_Command, epilog=_epilog)(_function)


def _print_version(given: bool) -> None:
    if given:
        typer.echo(f"{NAME} {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    """Run the command line and leave with the documented exit code."""
    prepare_streams()
    try:
        _run()
    except InterruptedRunError as error:
        _leave(str(error), error.exit_code)
    except VL3DError as error:
        if not isinstance(error, ResourceError) and is_out_of_memory(error):
            _leave(OUT_OF_MEMORY, ResourceError.exit_code)
        _leave(str(error), error.exit_code)
    except PermissionError as error:
        _leave(
            f"{error.filename}: {error.strerror}; check the permissions, or name "
            "another file or folder",
            ResourceError.exit_code,
        )
    except KeyboardInterrupt:
        _leave("interrupted; no partial files remain", 130)
    except SystemExit:
        raise
    except BaseException as error:  # libraries in Rust raise no Exception
        if is_out_of_memory(error):
            _leave(OUT_OF_MEMORY, ResourceError.exit_code)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _leave(str(output_error(error)), ResourceError.exit_code)
        if problem := _unusable_path(error):
            _leave(problem, DataError.exit_code)
        if isinstance(error, Exception):
            _report_internal_error()
        raise


def _run() -> None:
    try:
        # Shell completion goes by this name, also for `python -m vl3d_lite`.
        app(prog_name=NAME)
    except SystemExit as end:
        if end.code:
            raise
    safe_point("interrupted; the command itself is finished")


def _unusable_path(error: BaseException) -> str:
    """The message for a path that no system call takes; empty for other errors."""
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):
        error = error.__context__ or error  # `Path.resolve` before Python 3.13
    remedies = {
        errno.ENAMETOOLONG: "give a shorter path",
        errno.ELOOP: "its links lead back to itself; give the path of the file",
    }
    if isinstance(error, OSError) and error.errno in remedies:
        name = str(error.filename)
        name = name if len(name) <= 80 else f"{name[:77]}..."
        return f"{name}: {error.strerror}; {remedies[error.errno]}"
    return ""


def _report_internal_error() -> None:
    echo_error(
        "internal error; report the traceback below with the output of "
        "`vl3d-lite doctor`"
    )


def _leave(message: str, code: int) -> NoReturn:
    echo_error(message)
    sys.exit(code)
