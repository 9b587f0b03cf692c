"""HTML from the templates of the report."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vl3d_lite.report.text import percent

__all__ = ["NOTHING", "render"]

NOTHING = "\N{EN DASH}"  # shown for an undefined or missing value


def render(template: str, **content: Any) -> str:
    """Render a template to a page that needs no network, script or other file.

    Args:
        template: Name of a file in ``report/templates``.
        content: Values of the template; a missing one is an error.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("vl3d_lite.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "score": _score,
        "count": "{:,}".format,
        "percent": percent,
        "plain": _plain,
    }
    html = environment.get_template(template).render(content)
    # File names may contain bytes that are not valid text.
    return html.encode("utf-8", "replace").decode("utf-8")


def _score(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.3f}"


def _plain(value: object) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}" if abs(int(value)) >= 10_000 else str(value)
    if isinstance(value, float | np.floating):
        return f"{value:,.4g}" if abs(float(value)) < 1000 else f"{value:,.0f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return str(value)
