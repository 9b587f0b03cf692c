"""Commands about specs: check, plan, write and convert them."""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vl3d_lite.cli.options import (
    Overrides,
    Overwrite,
    Quiet,
    RenamedProbe,
    SpecPath,
    Threads,
    configure_logging,
    load_spec,
    require_keras_memory,
)
from vl3d_lite.cli.terminal import echo
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.system import (
    cpu_limit,
    has_gpu,
    require_free,
    thread_count,
    write_text,
)

if TYPE_CHECKING:
    from vl3d_lite.spec import LoadedSpec

logger = logging.getLogger(__name__)


def check(
    spec: SpecPath,
    set_: Overrides = None,
    no_files: Annotated[
        bool,
        typer.Option(
            "--no-files",
            help="Check the spec alone; skip headers, dimensions and class codes of "
            "the clouds.",
        ),
    ] = False,
):
    """Check a spec and the clouds it names.

    Of training and validation clouds the points are read; `plan` prints the same
    warnings and estimates memory and time.
    """
    configure_logging(quiet=False)
    loaded = load_spec(spec, set_, needs=(), check_files=not no_files)
    if not no_files:
        _check_clouds(loaded)
    if not any(loaded.clouds.values()):  # No header decided about dimensions.
        for warning in loaded.warnings:
            logger.warning("warning: %s", warning)
    counts = ", ".join(f"{len(paths)} {name}" for name, paths in loaded.clouds.items())
    checked = "clouds not checked" if no_files else f"{counts or 'no'} clouds"
    echo(f"{spec}: OK ({checked})")


def _check_clouds(loaded: "LoadedSpec") -> None:
    """Raise the errors of all groups of clouds as one."""
    from vl3d_lite.dataset import check_clouds
    from vl3d_lite.guide import read_warnings

    errors = []
    for group in ("train", "validation", "predict"):
        try:
            check_clouds(
                loaded.clouds[group], loaded.spec, count_classes=group == "train"
            )
        except DataError as error:
            errors.append(str(error))
    if errors:
        raise DataError("\n".join(errors))
    for warning in read_warnings(loaded, cpu_limit()):
        logger.warning("warning: %s", warning)


def plan(
    spec: SpecPath,
    set_: Overrides = None,
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Time some training steps, for about a minute."),
    ] = False,
    threads: Threads = None,
    quiet: Quiet = False,
    probe: RenamedProbe = False,
):
    """Estimate memory, time and disk use; print warnings.

    The command reads the training and validation clouds and trains nothing. If the
    run does not fit into memory, it ends with exit code 4 and names the settings that
    reduce memory use.
    """
    configure_logging(quiet=quiet)
    print_plan(load_spec(spec, set_, needs=("train",)), threads, measure=measure)


def print_plan(loaded: "LoadedSpec", threads: int | None, *, measure: bool) -> None:
    """Print the plan of a run.

    Args:
        loaded: The spec.
        threads: Of the run; all available ones if None.
        measure: Whether to time some training steps, which imports Keras.
    """
    from vl3d_lite.guide import plan_run, plan_text

    if measure:
        require_keras_memory()
    found = plan_run(
        loaded, threads=thread_count(threads), accelerator=has_gpu(), measure=measure
    )
    echo(plan_text(found), nl=False)


def init(
    clouds: Annotated[
        list[str],
        typer.Argument(
            metavar="CLOUD",
            help="Labeled LAS or LAZ files, globs, folders, or lists (`@tiles.txt`).",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", metavar="SPEC.yaml", help="Spec to write.")
    ] = Path("spec.yaml"),
    split_into: Annotated[
        Path | None,
        typer.Option(
            "--split-into",
            metavar="FOLDER",
            help="Folder for the blocks of clouds that are split. Default: "
            "<spec>_blocks beside the spec.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
):
    """Write a commented spec for labeled clouds.

    Of several labeled clouds, one is held out for validation, without the points next
    to the others. A single cloud is split into two blocks with a gap between them;
    blocks are written as new files. Clouds without labels become clouds to predict.
    """
    configure_logging(quiet=quiet)
    from vl3d_lite.clouds import find_listed_clouds
    from vl3d_lite.guide import propose_spec

    propose_spec(
        find_listed_clouds(clouds, Path.cwd()),
        output,
        split_into=split_into,
        overwrite=overwrite,
    )
    echo(f"{output}: written; next: vl3d-lite plan {output}")


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="VL3D.json", help="VL3D spec that trains.", readable=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="SPEC.yaml",
            help="Spec to write. Default: the name of the VL3D spec with .yaml.",
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
):
    """Convert a VL3D training spec.

    The command prints what it chose, replaced or dropped, with reasons, and writes
    the same text as comments into the spec.
    """
    configure_logging(quiet=quiet)
    from vl3d_lite.guide import convert as convert_spec

    target = output or Path(f"{source.stem}.yaml")
    require_free(target, overwrite=overwrite, remedy="name another file with --output")
    conversion = convert_spec(source)
    write_text(target, conversion.text())
    if not quiet:
        echo(conversion.report(), err=True)
    try:
        load_spec(target, None, needs=(), check_files=False)
    except SpecError as error:
        raise SpecError(
            f"{target}: written, but incomplete: edit the keys below:\n{error}"
        ) from None
    echo(f"spec  {target}")


def schema():
    """Print the JSON schema of specs.

    Editors use the schema to complete and check a spec while you type.
    """
    from vl3d_lite.spec import json_schema

    echo(json.dumps(json_schema(), indent=2))
