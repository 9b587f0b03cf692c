"""The report of a run: one HTML page that needs no network, script or other file."""

from pathlib import Path

from vl3d_lite.report.content import ReportData, page_content
from vl3d_lite.report.pictures import CloudView
from vl3d_lite.report.rendering import render
from vl3d_lite.system import write_text

__all__ = ["CloudView", "ReportData", "write_report"]


def write_report(target: Path, report: ReportData) -> None:
    """Write the page of a run, smaller than 5 MB, completely or not at all.

    Args:
        target: The HTML file.
        report: Content of the page.

    Raises:
        ResourceError: The file cannot be written.
        SpecError: A class color is not ``#rrggbb``.
    """
    write_text(Path(target), render("report.html", **page_content(report)))
