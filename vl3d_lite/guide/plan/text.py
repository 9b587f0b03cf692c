"""A plan in words."""

from vl3d_lite.guide.plan.cloud_facts import counted_classes
from vl3d_lite.guide.plan.plan import Plan, prediction_batches
from vl3d_lite.report.text import fact_lines, sections, table
from vl3d_lite.system.resources import memory_limit

MOST_CLOUDS = 20  # told one by one


def plan_text(plan: Plan) -> str:
    """The plan as aligned plain text."""
    parts = [
        f"Plan of {plan.loaded.path}",
        _clouds(plan),
        _classes(plan),
        fact_lines(_work(plan)),
        fact_lines(_cost(plan)),
    ]
    if plan.warnings:
        parts.append("\n".join(f"warning: {line}" for line in plan.warnings))
    else:
        parts.append("No warnings.")
    return sections(*parts)


def _clouds(plan: Plan) -> str:
    rows = [["cloud", "for", "points", "points/m2", "cells", "points a cell"]]
    for cloud in plan.clouds[:MOST_CLOUDS]:
        known = cloud.density is not None
        about = "" if known else "~"
        rows.append(
            [
                cloud.path.name,
                cloud.group,
                f"{cloud.points:,}",
                f"{cloud.density:.3g}" if known else "-",
                f"{about}{cloud.cells[0]:,}",
                f"{cloud.points / max(cloud.cells[0], 1):.1f}",
            ]
        )
    more = len(plan.clouds) - MOST_CLOUDS
    return table(rows) + (f"\nand {more} more" if more > 0 else "")


def _classes(plan: Plan) -> str:
    spec = plan.loaded.spec
    rows = [["class", "codes", "training points", "share", "validation points"]]
    train, held_out = (
        counted_classes(spec, plan.clouds, group) for group in ("train", "validation")
    )
    named = sum(train.values())
    for name, codes in spec.class_codes.items():
        rows.append(
            [
                name,
                " ".join(map(str, codes)),
                f"{train[name]:,}",
                f"{train[name] / max(named, 1):.1%}",
                f"{held_out[name]:,}",
            ]
        )
    unnamed = _unnamed(plan)
    told = ", ".join(f"{code} ({count:,} points)" for code, count in unnamed.items())
    text = (
        f"Ignored, as no class names them: {told}" if told else "Every code is named."
    )
    flagged = sum(cloud.flagged for cloud in plan.clouds)
    if flagged:
        flags = ", ".join(spec.ignored_flags)
        text += f"\nIgnored, as they are flagged {flags}: {flagged:,} points"
    return f"{table(rows)}\n{text}"


def _unnamed(plan: Plan) -> dict[int, int]:
    named = {c for codes in plan.loaded.spec.class_codes.values() for c in codes}
    found: dict[int, int] = {}
    for cloud in plan.clouds:
        for code, count in (cloud.codes or {}).items():
            if code not in named:
                found[code] = found.get(code, 0) + count
    return dict(sorted(found.items()))


def _work(plan: Plan) -> dict[str, str]:
    spec = plan.loaded.spec
    training = spec.training
    stages = spec.model.stages
    facts = {"stages": " > ".join(str(stage.points) for stage in stages)}
    counts = [cloud.fields for cloud in plan.clouds if cloud.fields is not None]
    if counts:
        full = sum((c[:, 0] >= stages[0].points).sum() for c in counts)
        total = sum(map(len, counts))
        facts["full fields"] = f"{full / total:.0%} of {total} probed training fields"
    compiled = "with" if plan.jit else "without"
    steps = plan.steps * training.epochs
    facts["training"] = (
        f"{training.epochs} epochs of {plan.steps} steps of {training.batch_size} "
        f"fields: {steps:,} steps, {steps * spec.points_per_batch:,} field points, "
        f"{compiled} XLA on a CPU"
    )
    if plan.batches:
        facts["validation"] = f"{plan.batches:,} batches an epoch"
    predicted = prediction_batches(plan.clouds, spec)
    if predicted:
        facts["prediction"] = (
            f"about {predicted:,} batches, {spec.prediction.votes} votes on each of "
            f"{spec.prediction.grids} grids"
        )
    facts["parameters"] = f"{plan.parameters:,}, by formula"
    return facts


def _cost(plan: Plan) -> dict[str, str]:
    memory = plan.memory
    parts = {
        "program": memory.runtime,
        "clouds": memory.clouds,
        "graph": memory.graph,
        "compiling or a step": max(
            memory.compiling, 0.0 if memory.accelerator else memory.step
        ),
        "weights": 0.0 if memory.accelerator else memory.weights,
        "batches": memory.batches,
    }
    told = ", ".join(f"{name} {_size(value)}" for name, value in parts.items() if value)
    facts = {
        "peak RAM": f"about {_size(memory.host)} of {_size(memory_limit())} free "
        f"({told})",
        "GPU memory": f"about {_size(memory.device)}, if a GPU is used; by formula "
        "alone, never measured on one",
        "disk": f"about {_size(plan.disk)}",
    }
    timing = plan.timing
    if timing is None:
        facts["time"] = "not measured; --probe times some steps"
    else:
        facts["preparation"] = _time(timing.preparation)
        facts["training time"] = f"{_time(timing.training)}, {timing.step:.2f} s a step"
        facts["prediction time"] = _time(timing.prediction)
    return facts


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"about {seconds:.0f} s"
    if seconds < 6000:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
