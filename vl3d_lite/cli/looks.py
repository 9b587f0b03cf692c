"""Commands that look at what exists: files, runs and the installation."""

from pathlib import Path
from typing import Annotated

import typer

from vl3d_lite.cli.options import (
    Overwrite,
    RunPaths,
    configure_logging,
)
from vl3d_lite.cli.terminal import echo
from vl3d_lite.errors import SpecError
from vl3d_lite.runs import RunFolder
from vl3d_lite.system import (
    VARIABLE,
    default_cache_folder,
    expand_home,
    find_shipped,
    open_cache_folder,
    require_free,
    write_text,
)


def inspect(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Kernel folder, run, model, or LAS or LAZ file.",
            readable=False,
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Also write a page with an interactive view of the kernels.",
        ),
    ] = None,
    overwrite: Overwrite = False,
):
    """Describe a kernel folder, run, model or LAS file."""
    configure_logging(quiet=False)
    from vl3d_lite.report import inspect_path, kernel_page

    if html is not None:
        require_free(html, overwrite=overwrite, remedy="name another file with --html")
    path = find_shipped("models", path)
    echo(inspect_path(path))
    if html is not None:
        kernels = RunFolder(path).kernels
        page = kernel_page(kernels if kernels.is_dir() else path)
        write_text(html, page)
        echo(f"\npage  {html}")


def compare(
    runs: RunPaths,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            metavar="FILE",
            help="Also write a file: .html, .csv or .md.",
        ),
    ] = None,
    overwrite: Overwrite = False,
):
    """Compare runs, or two predictions of one scan.

    Of runs the specs, scores and costs are printed; the best score in each row is
    marked with `*`, unless scores cannot be compared. Of two folders of predictions
    the command counts the points whose class differs, and an .html file shows where.
    """
    configure_logging(quiet=False)
    from vl3d_lite.report import (
        compare_folders,
        comparison_text,
        comparison_writer,
    )

    write = None
    if output is not None:
        write = comparison_writer(output)  # refuses an unknown suffix early
        require_free(
            output, overwrite=overwrite, remedy="name another file with --output"
        )
    comparison = compare_folders([find_shipped("models", path) for path in runs])
    echo(comparison_text(comparison), nl=False)
    if output is not None and write is not None:
        write_text(output, write(comparison))
        echo(f"\npage  {output}")


def models():
    """List the shipped models.

    Each is used by its name in place of a run folder. `vl3d-lite predict auto` takes
    the one whose domain fits, cloud by cloud.
    """
    configure_logging(quiet=False)
    from vl3d_lite.guide import describe_models

    echo(describe_models())


def cache(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--folder",
            metavar="FOLDER",
            help="Folder of the cache, as `cache.folder` of a spec names it. Default: "
            "VL3D_LITE_CACHE, or the user's cache folder.",
        ),
    ] = None,
    clear: Annotated[
        bool,
        typer.Option("--clear", help="Remove all entries that no process uses."),
    ] = False,
):
    """List the cache of prepared clouds, or clear it.

    Training stores prepared clouds there. Of each the command prints size, last use
    and source, and of the facts about clouds (hashes, class counts, densities) number
    and size. Cleared entries are made again when they are needed.
    """
    configure_logging(quiet=False)
    from vl3d_lite.report import cache_text

    root = expand_home(folder) if folder else default_cache_folder()
    if root is None:
        raise SpecError(f"the cache is off ({VARIABLE}); name its folder with --folder")
    found = open_cache_folder(root, 0)
    if not clear:
        echo(cache_text(found), nl=False)
        return
    removed, kept = found.clear()
    in_use = (
        f"; {kept} are kept, which a process uses, or whose file system has no locks: "
        "remove the folder yourself when nothing uses it"
        if kept
        else ""
    )
    echo(f"{root}: {removed} entries removed{in_use}")


def doctor():
    """Check the installation.

    The command prints versions, GPUs, memory, and the result of a short training,
    with a remedy for each failure. Exit code 0 only if training works.
    """
    configure_logging(quiet=False)
    from vl3d_lite.guide import (
        describe_findings,
        examine_installation,
        installation_works,
    )

    findings = examine_installation()
    echo(describe_findings(findings))
    if not installation_works(findings):
        raise typer.Exit(1)
