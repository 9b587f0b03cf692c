"""Receptive fields and network of a VL3D spec."""

import math
from typing import Any

from vl3d_lite.errors import SpecError
from vl3d_lite.guide.vl3d.source import Part

KERNEL_POINTS = ("KPConv", "LightKPConv", "SFLKPConv", "KPConvX")
FLAT_POINTS = 4096  # VL3D's default for networks without a hierarchy
FLAT_STAGES = ((1, 32), (4, 64), (16, 128))  # divisor of the points, channels
GROUPS = 8  # default of `model.kpconvx.groups`
MAX_NEIGHBORS = 256  # that a stage of a spec may have
MAX_SHELL_POINTS = 128  # that a shell of a spec may have


def fields_and_model(train: Part, notes: list[str]) -> tuple[dict, dict]:
    """The sections ``fields`` and ``model``.

    Returns:
        Both sections; ``fields`` lacks ``grid_size`` if nothing determines it.

    Raises:
        SpecError: VL3D would not accept a value, or the lengths of lists differ.
    """
    model = train.part("model_args")
    before = model.part("pre_processing")
    kind = before.text("pre_processor", default="hierarchical_fps")
    points = before.integers("num_points_per_depth")
    extraction = model.part("feature_extraction")
    if points is None:
        network = _replaced(train, before, notes)
    else:
        network = _hierarchical(model, before, extraction, points, notes)
    finest = network["stages"][0]["points"]
    return _fields(before, kind, finest, points is not None, notes), network


def _fields(
    before: Part, kind: str, finest: int, hierarchical: bool, notes: list[str]
) -> dict:
    """The section ``fields``, for a first stage of `finest` points."""
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
        raise around.error(("radius",), "a length in meters", radius)
    fields: dict[str, Any] = {}
    if not any(edges):
        notes.append(
            "fields: radius 0 means the whole cloud in VL3D; nearest points are used"
        )
        return {"shape": "nearest"}
    if not all(edges):
        raise around.error(("radius",), "positive lengths", radius)
    if shape in ("sphere", "cylinder"):
        fields |= {"shape": shape, "radius": edges[0]}
        area = math.pi * edges[0] ** 2
    elif shape in ("rectangular3d", "rectangular2d"):
        axes = 3 if shape == "rectangular3d" else 2
        edges = edges * axes if len(edges) == 1 else edges
        fields |= {"shape": "box", "size": [2 * edge for edge in edges[:axes]]}
        area = 4 * edges[0] * edges[min(1, len(edges) - 1)]
    else:
        raise around.error(
            ("type",), "sphere, cylinder, rectangular2D or rectangular3D", shape
        )
    spacing = float(f"{math.sqrt(area / finest):.2g}")
    fields["grid_size"] = min(spacing, _reach(fields))
    notes.append(
        f"fields.grid_size: VL3D has none; {fields['grid_size']:g} m is the spacing of "
        f"{finest} points that fill the horizontal area of a field. All points of a "
        "cell get the same class"
    )
    if hierarchical:
        fields["sampling"] = "farthest"
    elif kind != "furthest_point_subsampling":
        notes.append(f"fields: nested grids replace `{kind}`")
    return fields | _centers(before, around, notes)


def _reach(fields: dict) -> float:
    return min(fields["size"][:2]) / 2 if "size" in fields else fields["radius"]


def _centers(before: Part, around: Part, notes: list[str]) -> dict:
    strategy = before.text("support_strategy", default="grid")
    fast = before.peek("support_strategy_fast")
    if before.peek("training_class_distribution") is not None:
        drawn = before.take("training_class_distribution")
        notes.append(
            f"fields: VL3D draws {drawn} fields by class; here classes count equally"
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
            f"fields.overlap: centers {separation:g} radii apart are not supported "
            "(more than 1, at most 2); the default 0.5 is used"
        )
    return entry


def _hierarchical(
    model: Part, before: Part, extraction: Part, points: list[int], notes: list[str]
) -> dict:
    """The section ``model`` for a network with a hierarchy of points."""
    depth = len(points)
    kind = extraction.text("type", default="PointNet")
    operations = extraction.integers("operations_per_depth") or [1] * depth
    widths = extraction.integers("feature_space_dims")
    neighbors = before.integers("num_pwise_neighbors") or [16] * depth
    if widths is None:
        raise extraction.error(
            ("feature_space_dims",), "a list of positive integers", None
        )
    for name, owner, values, wanted in (
        ("operations_per_depth", extraction, operations, depth),
        ("num_pwise_neighbors", before, neighbors, depth),
        ("feature_space_dims", extraction, widths, sum(operations)),
    ):
        if len(values) != wanted:
            raise owner.error((name,), f"a list of {wanted} entries", values)
    ends = [sum(operations[: number + 1]) - 1 for number in range(depth)]
    channels = [widths[end] for end in ends]
    if len(set(widths)) > len(set(channels)):
        notes.append(
            f"model: all blocks of a stage have the same width, so {widths} becomes "
            f"{channels}, the last of each depth"
        )
    stages = []
    for count, width, nearest, blocks in zip(
        points, channels, neighbors, operations, strict=True
    ):
        least = min(nearest, count, MAX_NEIGHBORS)
        if least < nearest:
            notes.append(
                f"model: {nearest} neighbors become {least}, the largest number"
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
            "model: a `kpconvx` block, a depthwise kernel point convolution with "
            f"kernel attention, replaces each {kind}. `blocks: [kpconvx, gva]` adds "
            "vector attention"
        )
    else:
        notes.append(
            "model: kernel point convolutions of the same depth and widths replace the "
            f"{kind} network: a `kpconvx` block for each of its operations"
        )
    network: dict[str, Any] = {"stages": stages}
    kernel = _kernel(extraction, channels, kind, notes)
    if kernel:
        network["kpconvx"] = kernel
    return network | _filters(model, notes)


def _kernel(extraction: Part, channels: list[int], kind: str, notes: list[str]) -> dict:
    """The section ``model.kpconvx``, without defaults."""
    kernel: dict[str, Any] = {}
    groups = math.gcd(GROUPS, *channels)
    if groups != GROUPS:
        kernel["groups"] = groups
    if kind not in KERNEL_POINTS:
        return kernel
    counts = extraction.integers("num_kernel_points")
    deformable = extraction.take("deformable")
    if counts and len(set(counts)) == 1 and counts[0] <= MAX_SHELL_POINTS + 1:
        outer = counts[0] - 1
        kernel["shell_radii"] = [0.0, 1.0] if outer else [0.0]
        kernel["shell_points"] = [1, outer] if outer else [1]
        notes.append(
            f"model.kpconvx: {counts[0]} kernel points as in VL3D, one in the center "
            "and the others on a sphere"
        )
    elif counts:
        notes.append(
            f"model.kpconvx: {counts} kernel points are not supported; all stages have "
            "the same kernel of at most 129 points on two shells. The default is used"
        )
    flags = deformable if isinstance(deformable, list) else [deformable]
    if any(flag is True for flag in flags):
        kernel["deformable"] = True
        if not all(flag is True for flag in flags):
            notes.append("model.kpconvx: deformable at all stages, in VL3D at some")
    return kernel


def _filters(model: Part, notes: list[str]) -> dict:
    """Down- and upsampling of the section ``model``."""
    entry = {}
    down, up = model.text("downsampling_filter"), model.text("upsampling_filter")
    entry["downsampling"] = "strided" if "strided" in str(down) else "max"
    entry["upsampling"] = "nearest" if up == "nearest" else "interpolated"
    if down and entry["downsampling"] == "max" and down != "max":
        notes.append(f"model.downsampling: the maximum replaces `{down}`")
    if up not in (None, "nearest"):
        notes.append(
            "model.upsampling: a distance-weighted mean of three neighbors replaces "
            f"`{up}`"
        )
    return entry


def _replaced(train: Part, before: Part, notes: list[str]) -> dict:
    """The section ``model`` in place of a network without a hierarchy."""
    points = before.integer("num_points", default=FLAT_POINTS)
    if points < FLAT_STAGES[-1][0]:
        raise before.error(
            ("num_points",),
            f"at least {FLAT_STAGES[-1][0]}, so that each stage has points",
            points,
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
        "model: a network of three stages with kernel point convolutions and vector "
        f"attention (`kpconvx`, `gva`) replaces {train.text('train')}; only its "
        f"{points} points per field are kept"
    )
    return {"stages": stages}


def require_network(train: Part) -> None:
    """Check that a component trains a network.

    Raises:
        SpecError: It trains a random forest or another model.
    """
    name = train.peek("train")
    if isinstance(name, str) and train.peek("model_args", "pre_processing") is not None:
        train.take("train")
        return
    raise SpecError(
        f"{train.source.path}: trains `{name}`, not a network on receptive fields "
        "(`model_args.pre_processing`); there is nothing to convert it to"
    )
