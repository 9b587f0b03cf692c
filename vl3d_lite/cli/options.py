"""Options that several commands share, and the objects made from them."""

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vl3d_lite.cli.terminal import LogFormatter
from vl3d_lite.errors import SpecError
from vl3d_lite.runs import Options, RunFolder, Shard, find_run, workers_of
from vl3d_lite.system import (
    require_address_space,
    safe_point,
    silenced_stderr,
    thread_count,
)

if TYPE_CHECKING:  # pydantic takes a second to import; `--help` needs none of it
    from vl3d_lite.spec import LoadedSpec

# Bytes: TensorFlow takes 1.6 GB of address space, threads and a small network the rest.
KERAS_ADDRESS_SPACE = 2500 << 20
# `readable=False`: the reader of a file reports what cannot be read, with the
# exit code of input data; click would end with the one of usage.
SpecPath = Annotated[
    Path,
    typer.Argument(
        metavar="SPEC.yaml",
        help="The YAML spec, or the name of a shipped config.",
        readable=False,
    ),
]
RunPath = Annotated[
    Path,
    typer.Argument(
        metavar="RUN",
        help="The run folder, or the name of a shipped model.",
        readable=False,
    ),
]
RunPaths = Annotated[
    list[Path],
    typer.Argument(
        metavar="RUN",
        help="Run folders, or names of shipped models.",
        readable=False,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a value of the spec. Repeatable."
    ),
]
RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", metavar="FOLDER", help="Run folder. Default: runs/<name of the spec>."
    ),
]
# Every flag is named here, since typer adds a `--no-...` twin to one without a name.
Resume = Annotated[bool, typer.Option("--resume", help="Resume an interrupted run.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Overwrite existing output.")
]
Replace = Annotated[
    bool,
    typer.Option(
        "--replace", help="Replace dimensions of the same name in the input clouds."
    ),
]


def _at_least_one(value: int | None) -> int | None:
    # `min=1` would add its own notation to the help.
    if value is not None and value < 1:
        raise typer.BadParameter(f"must be at least 1. Received: {value}")
    return value


Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="COUNT",
        callback=_at_least_one,
        help="Number of CPU threads, of each worker if there are several. Default: all "
        "that the process may use.",
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="Print warnings and errors; hide progress.")
]


Clouds = Annotated[
    list[str],
    typer.Argument(
        metavar="CLOUD",
        help="LAS or LAZ files, globs, folders, or lists of files: `@tiles.txt` has "
        "one file per line.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="NUMBER/COUNT",
        help="Classify one part of the clouds, such as 3/40. All parts share a folder.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="COUNT",
        help="Classify with processes of this machine, one GPU each; with a YAML file "
        "as --cluster, with as many workers of a batch system.",
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Classify with the workers of a Dask scheduler, such as tcp://node1:8786, "
        "or of a batch system that a YAML file describes.",
    ),
]
ClassGroups = Annotated[
    str,
    typer.Option(
        "--classes",
        metavar="NAME[:CODE]=CLASS+CLASS,...",
        help="Merge classes; their probabilities are summed. `*` stands for all "
        "other classes.",
    ),
]


def _refuse_renamed(_context: typer.Context, option: typer.CallbackParam, given: bool):
    if given:
        raise SpecError(
            f"{option.opts[0]}: the option is named {RENAMED[option.opts[0]]} now"
        )


RENAMED = {"--probe": "--measure"}
# An option of an earlier version: an error that names the new one.
RenamedProbe = Annotated[
    bool, typer.Option("--probe", hidden=True, callback=_refuse_renamed)
]


def configure_logging(*, quiet: bool) -> None:
    """Log to stderr as plain messages; warnings and errors alone if `quiet`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter("%(message)s"))
    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO,
        handlers=[handler],
        force=True,
    )
    for noisy in ("h5py", "absl", "matplotlib", "jax", "distributed"):
        logging.getLogger(noisy).setLevel(logging.ERROR)


def load_spec(
    path: Path,
    overrides: Sequence[str] | None,
    *,
    needs: Sequence[Literal["train", "validation", "predict"]],
    check_files: bool = True,
) -> "LoadedSpec":
    """Read a spec with the values of ``--set``.

    Args:
        path: The spec, or the name of a shipped config.
        overrides: ``KEY=VALUE`` each.
        needs: Groups of clouds that must not be empty.
        check_files: Whether the clouds must exist.

    Raises:
        DataError: The spec or a cloud cannot be read.
        SpecError: The spec or an override is not valid.
    """
    from vl3d_lite.spec import read_spec

    # Specs are UTF-8 whatever the locale is, also those parts of them.
    decoded = [os.fsencode(text).decode("utf-8", "replace") for text in overrides or ()]
    return read_spec(path, decoded, check_files=check_files, needs=needs)


def new_run_folder(
    spec: Path, run: Path | None, *, resume: bool, overwrite: bool
) -> RunFolder:
    """The folder that a run of `spec` is written to.

    Raises:
        SpecError: The options exclude each other, or the folder holds a run that
            neither of them covers.
    """
    if resume and overwrite:
        raise SpecError("--resume and --overwrite exclude each other; give only one")
    folder = RunFolder(run or Path("runs") / spec.stem)
    folder.refuse_if_present(resume=resume, overwrite=overwrite)
    return folder


def trained_run(run: Path) -> RunFolder:
    """A run folder that must hold a model.

    Args:
        run: Its path, or the name of a shipped model.

    Raises:
        DataError: It holds none.
    """
    folder = find_run(run)
    folder.require_model()
    return folder


def pipeline_options(
    threads: int | None,
    quiet: bool,
    *,
    resume: bool = False,
    overwrite: bool = False,
    replace: bool = False,
    shard: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
) -> Options:
    """The options of a command as the pipeline takes them."""
    return Options(
        threads=thread_count(threads),
        quiet=quiet,
        resume=resume,
        overwrite=overwrite,
        replace=replace,
        shard=None if shard is None else Shard.parse(shard),
        workers=workers_of(workers, cluster),
        worker_threads=threads,
    )


def require_keras_memory() -> None:
    """Check that the limit of the address space, if there is one, admits Keras.

    Raises:
        ResourceError: It does not.
    """
    require_address_space(KERAS_ADDRESS_SPACE, "loading Keras and TensorFlow")


def load_pipeline() -> ModuleType:
    """Import the pipeline and, with it, Keras.

    This takes seconds, so a command calls it after every check that can refuse.
    """
    require_keras_memory()
    safe_point()
    with silenced_stderr():
        import vl3d_lite.pipeline as pipeline
    safe_point()
    return pipeline
