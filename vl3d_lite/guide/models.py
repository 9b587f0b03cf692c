"""`vl3d-lite models`: the shipped models, with domain, classes, scores and licence."""

import textwrap

from vl3d_lite.dataset import Domain, read_domain
from vl3d_lite.report import sections, table
from vl3d_lite.runs import Card, RunFolder, read_card, shipped_runs
from vl3d_lite.spec import Spec, read_spec

WIDTH = 96


def describe_models() -> str:
    """Text about each shipped model.

    Raises:
        DataError: A file of a model is missing or damaged.
    """
    runs = shipped_runs()
    if not runs:
        return "no models are shipped with this installation"
    return sections(*(_described(name, run) for name, run in runs.items())).rstrip("\n")


def _described(name: str, run: RunFolder) -> str:
    card = read_card(run.root)
    spec = read_spec(run.spec, check_files=False).spec
    classes = ", ".join(f"{one} {entry.code}" for one, entry in spec.classes.items())
    facts = {
        "use": card.intended_use,
        "classes": f"{classes} (LAS codes written)",
        "inputs": _inputs(spec),
        "domain": _domain_text(read_domain(run.recorded_domain())),
        "licence": card.licence,
        "folder": str(run.root),
    }
    lines = [f"{name}: {card.summary}"]
    for key, text in facts.items():
        lines += textwrap.wrap(
            text,
            WIDTH,
            initial_indent=f"  {key:<9}",
            subsequent_indent=" " * 11,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join([*lines, "", textwrap.indent(_scores(card), "  ")])


def _inputs(spec: Spec) -> str:
    names = ", ".join(dict.fromkeys(feature.name for feature in spec.features))
    return f"{names}; cells of {spec.fields.grid_size:g} m"


def _scores(card: Card) -> str:
    mean = f"mean IoU ({', '.join(card.mean_over)})"
    rows = [["scored on", "points/m2", "accuracy", mean]]
    rows += [
        [
            score.cloud,
            f"{score.density:g}",
            f"{score.accuracy:.3f}",
            f"{score.mean_iou:.3f}",
        ]
        for score in card.scores
    ]
    return table(rows)


def _domain_text(domain: Domain | None) -> str:
    if domain is None:
        return "not recorded"
    low, high = domain.density_limits()
    parts = [f"{low:.3g} to {high:.3g} points/m2"]
    if domain.returns is not None:
        parts.append("several returns per pulse")
    parts.append(f"slopes up to {domain.slope[1]:.0f} degrees")
    parts.append(f"objects up to {domain.height[1]:.0f} m")
    return ", ".join(parts)
