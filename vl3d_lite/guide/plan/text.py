"""Format a plan as text."""

from vl3d_lite.dataset import exclusion
from vl3d_lite.guide.plan.cloud_facts import ReadCloudFacts, count_classes
from vl3d_lite.guide.plan.plan import Plan
from vl3d_lite.guide.plan.timing import prediction_batches
from vl3d_lite.report import fact_lines, sections, table
from vl3d_lite.spec import cloud_labels, label_names
from vl3d_lite.system import memory_limit

MAX_CLOUDS = 20  # rows of the table of clouds


def plan_text(plan: Plan) -> str:
    """Format a plan as aligned plain text."""
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
    rows = [["cloud", "group", "points", "points/m2", "cells", "points/cell"]]
    for cloud in plan.clouds[:MAX_CLOUDS]:
        read = isinstance(cloud, ReadCloudFacts)
        about = "" if read else "~"
        rows.append(
            [
                cloud.path.name,
                cloud.group,
                f"{cloud.points:,}",
                f"{cloud.density:.3g}" if isinstance(cloud, ReadCloudFacts) else "-",
                f"{about}{cloud.cells[0]:,}",
                f"{cloud.points / max(cloud.cells[0], 1):.1f}",
            ]
        )
    more = len(plan.clouds) - MAX_CLOUDS
    text = table(rows) + (f"\nand {more} more" if more > 0 else "")
    known = [one.recalled for one in plan.clouds if isinstance(one, ReadCloudFacts)]
    if any(known):
        text += (
            f"\nCounts of {sum(known)} of {len(known)} training and validation clouds "
            "are from the cache; these files have not changed."
        )
    return text


def _classes(plan: Plan) -> str:
    spec = plan.loaded.spec
    rows = [["class", "codes", "training points", "share", "validation points"]]
    train, held_out = (
        count_classes(spec, plan.clouds, group) for group in ("train", "validation")
    )
    total = sum(train.values())
    for name, codes in _codes_of_labels(plan).items():
        rows.append(
            [
                name,
                " ".join(map(str, sorted(codes))),
                f"{train[name]:,}",
                f"{train[name] / max(total, 1):.1%}",
                f"{held_out[name]:,}",
            ]
        )
    ignored = ", ".join(
        f"{code} ({count:,} points)" for code, count in _unmapped_codes(plan).items()
    )
    text = "All codes belong to a class."
    if ignored:
        text = f"Ignored codes that belong to no class: {ignored}"
    flagged = sum(c.flagged for c in plan.clouds if isinstance(c, ReadCloudFacts))
    if flagged:
        flags = ", ".join(spec.ignored_flags)
        text += f"\nIgnored points flagged {flags}: {flagged:,}"
    excluded = sum(c.excluded for c in plan.clouds if isinstance(c, ReadCloudFacts))
    if excluded:
        text += f"\nExcluded points ({exclusion(spec)}): {excluded:,}"
    return f"{table(rows)}\n{text}"


def _codes_of_labels(plan: Plan) -> dict[str, set[int]]:
    """Class or partial label to the codes that it has in any cloud of the plan."""
    spec = plan.loaded.spec
    result: dict[str, set[int]] = {name: set() for name in label_names(spec)}
    for path in {cloud.path for cloud in plan.clouds}:
        for name, codes in cloud_labels(spec, path).codes.items():
            result[name] |= {*codes}
    return result


def _unmapped_codes(plan: Plan) -> dict[int, int]:
    """Code to points, of the codes without a class."""
    counts: dict[int, int] = {}
    for cloud in plan.clouds:
        labels = cloud_labels(plan.loaded.spec, cloud.path)
        mapped = {c for codes in labels.codes.values() for c in codes}
        codes = cloud.codes if isinstance(cloud, ReadCloudFacts) else {}
        for code, count in codes.items():
            if code not in mapped:
                counts[code] = counts.get(code, 0) + count
    return dict(sorted(counts.items()))


def _work(plan: Plan) -> dict[str, str]:
    spec = plan.loaded.spec
    training = spec.training
    stages = spec.model.stages
    facts = {"stages": " > ".join(str(stage.points) for stage in stages)}
    counts = [
        cloud.fields
        for cloud in plan.clouds
        if isinstance(cloud, ReadCloudFacts) and cloud.fields is not None
    ]
    if counts:
        full = sum((c[:, 0] >= stages[0].points).sum() for c in counts)
        total = sum(map(len, counts))
        facts["full fields"] = f"{full / total:.0%} of {total} sampled training fields"
    compiled = "with" if plan.jit else "without"
    steps = plan.steps * training.epochs
    facts["training"] = (
        f"{training.epochs} epochs of {plan.steps} steps of {training.batch_size} "
        f"fields: {steps:,} steps, {steps * spec.points_per_batch:,} field points, "
        f"{compiled} XLA on a CPU"
    )
    if plan.batches:
        facts["validation"] = f"{plan.batches:,} batches per epoch"
    predicted = prediction_batches(plan.clouds, spec)
    if predicted:
        facts["prediction"] = (
            f"about {predicted:,} batches; grids: {spec.prediction.grids}, votes on "
            f"each: {spec.prediction.votes}"
        )
    facts["parameters"] = f"{plan.parameters:,}"
    return facts


def _cost(plan: Plan) -> dict[str, str]:
    memory = plan.memory
    parts = {
        "program": memory.runtime,
        "clouds": memory.clouds,
        "graph": memory.graph,
        "compilation or a step": max(
            memory.compiling, 0.0 if memory.accelerator else memory.step
        ),
        "weights": 0.0 if memory.accelerator else memory.weights,
        "batches": memory.batches,
    }
    listed = ", ".join(f"{name} {_size(size)}" for name, size in parts.items() if size)
    facts = {
        "peak RAM": f"about {_size(memory.host)} of {_size(memory_limit())} free "
        f"({listed})",
        "GPU memory": f"about {_size(memory.device)} if a GPU is used; computed, not "
        "measured",
        "disk": f"about {_size(plan.disk)}",
        "cache": f"about {_size(plan.cached)} of prepared clouds"
        if plan.cached
        else "",
    }
    timing = plan.timing
    if timing is None:
        facts["time"] = "not measured; add --measure to time some steps"
    else:
        facts["preparation"] = _time(timing.preparation)
        facts["training time"] = (
            f"{_time(timing.training)}, {timing.step:.2f} s per step"
        )
        facts["prediction time"] = _time(timing.prediction)
        if timing.load is not None:
            facts["machine load"] = (
                f"{timing.load:.1f}, above the processors used: other programs slowed "
                "the measurement down, so the times are too long"
            )
    return facts


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"about {seconds:.0f} s"
    if seconds < 6000:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
