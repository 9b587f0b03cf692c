"""Receptive fields and network of a VL3D spec."""

import math
from typing import Any

from vl3d_lite.errors import SpecError
from vl3d_lite.guide.vl3d.source import Part

KERNEL_POINTS = ("KPConv", "LightKPConv", "SFLKPConv", "KPConvX")
FLAT_POINTS = 4096
FLAT_STAGES = ((1, 32), (4, 64), (16, 128))  # share of the points, channels
GROUPS = 8
MOST_NEIGHBORS = 256
MOST_SHELL_POINTS = 128


def fields_and_model(train: Part, notes: list[str]) -> tuple[dict, dict]:
    """The sections ``fields`` and ``model``.

    Returns:
        Both sections; ``fields`` lacks ``grid_size`` where nothing tells it.

    Raises:
        SpecError: A value is not what VL3D would take, or lists do not fit.
    """
    model = train.part("model_args")
    before = model.part("pre_processing")
    kind = before.text("pre_processor", default="hierarchical_fps")
    points = before.wholes("num_points_per_depth")
    extraction = model.part("feature_extraction")
    if points is None:
        network = _replaced(train, before, notes)
    else:
        network = _hierarchical(model, before, extraction, points, notes)
    finest = network["stages"][0]["points"]
    return _fields(before, kind, finest, points is not None, notes), network


def _fields(before, kind, finest, hierarchical, notes) -> dict:
    around = before.part("neighborhood")
    shape = (around.text("type", default="sphere") or "sphere").lower()
    radius = around.take("radius")
    if radius is None:
        radius = before.number("sphere_radius")
    edges = radius if isinstance(radius, list) else [radius]
    good = all(
        isinstance(edge, int | float) and not isinstance(edge, bool) and edge >= 0
        for edge in edges
    )
    if not good or not edges:
        raise around.add_error(("radius",), "a length in meters", radius)
    fields: dict[str, Any] = {}
    if not any(edges):
        notes.append("fields: radius 0 means the whole cloud to VL3D: nearest points")
        return {"shape": "nearest"}
    if not all(edges):
        raise around.add_error(("radius",), "lengths above 0", radius)
    if shape in ("sphere", "cylinder"):
        fields |= {"shape": shape, "radius": edges[0]}
        area = math.pi * edges[0] ** 2
    elif shape in ("rectangular3d", "rectangular2d"):
        axes = 3 if shape == "rectangular3d" else 2
        edges = edges * axes if len(edges) == 1 else edges
        fields |= {"shape": "box", "size": [2 * edge for edge in edges[:axes]]}
        area = 4 * edges[0] * edges[min(1, len(edges) - 1)]
    else:
        raise around.add_error(
            ("type",), "sphere, cylinder, rectangular2D or rectangular3D", shape
        )
    spacing = float(f"{math.sqrt(area / finest):.2g}")
    fields["grid_size"] = min(spacing, _reach(fields))
    notes.append(
        f"fields.grid_size: VL3D has none; {fields['grid_size']:g} m is the spacing of "
        f"{finest} points spread over the field's ground. Nothing finer gets a class"
    )
    if hierarchical:
        fields["sampling"] = "farthest"
    elif kind != "furthest_point_subsampling":
        notes.append(f"fields: `{kind}` becomes the nested grid of this program")
    return fields | _centers(before, around, notes)


def _reach(fields: dict) -> float:
    return min(fields["size"][:2]) / 2 if "size" in fields else fields["radius"]


def _centers(before: Part, around: Part, notes: list[str]) -> dict:
    strategy = before.text("support_strategy", default="grid")
    fast = before.peek("support_strategy_fast")
    if before.peek("training_class_distribution") is not None:
        drawn = before.take("training_class_distribution")
        notes.append(
            f"fields: VL3D draws {drawn} fields by class; here all classes alike"
        )
        return {"training_centers": "balanced"}
    if strategy == "fps":
        before.take("support_strategy_fast")
        return {"training_centers": "random" if fast else "farthest"}
    separation = around.number("separation_factor")
    if separation is None:
        separation = before.number("separation_factor")
    entry: dict[str, Any] = {"training_centers": "grid"}
    if separation is not None and 1 < separation <= 2:
        entry["overlap"] = float(f"{2 - separation:.4g}")
    elif separation is not None:
        notes.append(
            f"fields.overlap: centers {separation:g} radii apart cannot be asked for "
            "here (more than 1, at most 2); the default 0.5 is kept"
        )
    return entry


def _hierarchical(model, before, extraction, points, notes) -> dict:
    depth = len(points)
    kind = extraction.text("type", default="PointNet")
    operations = extraction.wholes("operations_per_depth") or [1] * depth
    widths = extraction.wholes("feature_space_dims")
    neighbors = before.wholes("num_pwise_neighbors") or [16] * depth
    if widths is None:
        raise extraction.add_error(
            ("feature_space_dims",), "a list of whole numbers", None
        )
    for name, owner, values, wanted in (
        ("operations_per_depth", extraction, operations, depth),
        ("num_pwise_neighbors", before, neighbors, depth),
        ("feature_space_dims", extraction, widths, sum(operations)),
    ):
        if len(values) != wanted:
            raise owner.add_error((name,), f"a list of {wanted} entries", values)
    ends = [sum(operations[: number + 1]) - 1 for number in range(depth)]
    channels = [widths[end] for end in ends]
    if len(set(widths)) > len(set(channels)):
        notes.append(
            f"model: a stage has one width, so {widths} becomes {channels}, the last "
            "of each depth"
        )
    stages = []
    for count, width, nearest, blocks in zip(
        points, channels, neighbors, operations, strict=True
    ):
        least = min(nearest, count, MOST_NEIGHBORS)
        if least < nearest:
            notes.append(
                f"model: {nearest} neighbors become {least}, as many as there may be"
            )
        stages.append(
            {
                "points": count,
                "channels": width,
                "neighbors": least,
                "blocks": ["kpconvx"] * blocks,
            }
        )
    if kind in KERNEL_POINTS:
        notes.append(
            f"model: each {kind} becomes one `kpconvx` block, a depthwise kernel point "
            "convolution with kernel attention. `blocks: [kpconvx, gva]` adds vector "
            "attention"
        )
    else:
        notes.append(
            f"model: the {kind} network is replaced by kernel point convolutions of "
            "the same depth and widths: a `kpconvx` block for each of its operations"
        )
    network: dict[str, Any] = {"stages": stages}
    kernel = _kernel(extraction, channels, kind, notes)
    if kernel:
        network["kpconvx"] = kernel
    return network | _filters(model, notes)


def _kernel(extraction, channels, kind, notes) -> dict:
    kernel: dict[str, Any] = {}
    groups = math.gcd(GROUPS, *channels)
    if groups != GROUPS:
        kernel["groups"] = groups
    if kind not in KERNEL_POINTS:
        return kernel
    counts = extraction.wholes("num_kernel_points")
    deformable = extraction.take("deformable")
    if counts and len(set(counts)) == 1 and counts[0] <= MOST_SHELL_POINTS + 1:
        outer = counts[0] - 1
        kernel["shell_radii"] = [0.0, 1.0] if outer else [0.0]
        kernel["shell_points"] = [1, outer] if outer else [1]
        notes.append(
            f"model.kpconvx: {counts[0]} kernel points as in VL3D, here one in the "
            "middle and the others on a sphere"
        )
    elif counts:
        notes.append(
            f"model.kpconvx: {counts} kernel points cannot be asked for; all stages "
            "share one kernel of at most 129 on two shells. The default is kept"
        )
    flags = deformable if isinstance(deformable, list) else [deformable]
    if any(flag is True for flag in flags):
        kernel["deformable"] = True
        if not all(flag is True for flag in flags):
            notes.append("model.kpconvx: deformable at all stages, VL3D at some")
    return kernel


def _filters(model: Part, notes: list[str]) -> dict:
    entry = {}
    down, up = model.text("downsampling_filter"), model.text("upsampling_filter")
    entry["downsampling"] = "strided" if "strided" in str(down) else "max"
    entry["upsampling"] = "nearest" if up == "nearest" else "interpolated"
    if down and entry["downsampling"] == "max" and down != "max":
        notes.append(f"model.downsampling: `{down}` becomes the maximum")
    if up not in (None, "nearest"):
        notes.append(
            f"model.upsampling: `{up}` becomes a mean of three weighted by distance"
        )
    return entry


def _replaced(train: Part, before: Part, notes: list[str]) -> dict:
    points = before.whole("num_points", default=FLAT_POINTS)
    if points < FLAT_STAGES[-1][0]:
        raise before.add_error(
            ("num_points",), f"at least {FLAT_STAGES[-1][0]}, one a stage", points
        )
    stages = [
        {
            "points": points // share,
            "channels": channels,
            "neighbors": min(16, points // share),
            "blocks": ["kpconvx", "gva"],
        }
        for share, channels in FLAT_STAGES
    ]
    notes.append(
        f"model: {train.text('train')} is replaced by a network of three stages "
        "with kernel point convolutions and vector attention (`kpconvx`, `gva`); of "
        f"the old one only the {points} points of a field are kept"
    )
    return {"stages": stages}


def require_network(train: Part) -> None:
    """Complain where what is trained is not a network.

    Raises:
        SpecError: It is a forest or the like.
    """
    name = train.peek("train")
    if isinstance(name, str) and train.peek("model_args", "pre_processing") is not None:
        train.take("train")
        return
    raise SpecError(
        f"{train.source.path}: trains `{name}`, not a network on receptive fields "
        "(`model_args.pre_processing`); there is nothing to convert it to"
    )
