"""Classes, clouds and features of a VL3D spec."""

from vl3d_lite.guide.vl3d.source import Part, Vl3dSource
from vl3d_lite.system import is_printable

CONSTANT = "ones"  # a column that VL3D specs add if coordinates are the only input
AUTO_WEIGHTS = "auto"
# Name of the features that miners of VL3D compute, here.
MINED = {
    "linearity": "linearity",
    "planarity": "planarity",
    "verticality": "verticality",
    "surfacevariation": "curvature",
    "floordistance": "height",
}


def classes(
    source: Vl3dSource, train: Part, notes: list[str], first: bool = False
) -> dict[str, dict]:
    """Classes with their LAS codes and their loss weights in VL3D.

    VL3D uses the index of a name in its list as the code in the file. A name in
    several groups belongs to the last of them, or to the first if `first`.

    Args:
        source: The VL3D spec.
        train: Its component that trains.
        notes: Sentences for the user are added here.
        first: Whether a name belongs to its first group instead of its last.

    Returns:
        By name: ``codes`` and ``weight``. Empty if the spec names no class.

    Raises:
        SpecError: Groups and names do not agree.
    """
    model = train.part("model_args")
    count = model.integer("num_classes")
    names = model.texts("class_names")
    weights = None
    if model.peek("model_handling", "class_weight") != AUTO_WEIGHTS:
        weights = model.numbers("model_handling", "class_weight")
    groups = _groups(source, notes, first)
    if groups is None:
        names = names or [f"C{number}" for number in range(count or 0)]
        groups = {name: [code] for code, name in enumerate(names)}
    if weights is not None and len(weights) != len(groups):
        raise model.error(
            ("model_handling", "class_weight"),
            f"a list with one number for each of the {len(groups)} classes",
            weights,
        )
    weights = weights or [1.0] * len(groups)
    return {
        _printable(name, notes): {"codes": codes, "weight": weight}
        for (name, codes), weight in zip(groups.items(), weights, strict=True)
    }


def _printable(name: str, notes: list[str]) -> str:
    """A class name that a spec may have: line breaks and the like become `_`."""
    if is_printable(name):
        return name
    result = "".join(letter if is_printable(letter) else "_" for letter in name)
    notes.append(f"classes: {name!r} is written as `{result}`: names are printable")
    return result


def _groups(
    source: Vl3dSource, notes: list[str], first: bool
) -> dict[str, list[int]] | None:
    for part in source.of_kind("class_transformer"):
        if part.peek("on_predictions") or part.peek("class_groups") is None:
            continue
        if source.chosen and part.base > source.chosen:
            continue
        part.take("class_transformer")
        part.take("on_predictions")
        names = part.texts("input_class_names")
        count = part.integer("num_classes")
        names = names or [f"C{number}" for number in range(count or 0)]
        groups = part.take("class_groups")
        outputs = part.texts("output_class_names")
        fits = isinstance(groups, list) and all(
            isinstance(group, list) and set(map(str, group)) <= set(names)
            for group in groups
        )
        if not fits:
            raise part.error(
                ("class_groups",), "lists of names from `input_class_names`", groups
            )
        outputs = outputs or [f"C{number}" for number in range(len(groups))]
        if len(set(outputs)) != len(groups):
            raise part.error(
                ("output_class_names",),
                f"{len(groups)} different names, one for each group",
                outputs,
            )
        numbered = list(enumerate(groups))
        owner = {
            name: number
            for number, group in (reversed(numbered) if first else numbered)
            for name in group
        }
        twice = [name for name in owner if sum(name in g for g in groups) > 1]
        if twice:
            notes.append(
                f"classes: {', '.join(twice)}: in several groups; the last one counts, "
                "as in VL3D"
            )
        free = [name for name in names if name not in owner]
        if free:
            notes.append(
                f"classes: {', '.join(free)}: in no group of the VL3D spec, so these "
                "codes are ignored"
            )
        return {
            output: [code for code, name in enumerate(names) if owner.get(name) == n]
            for n, output in enumerate(outputs)
        }
    return None


def clouds(source: Vl3dSource, notes: list[str]) -> list[str]:
    """Paths of the training clouds, as in the VL3D spec."""
    root = Part(source, ())
    named = root.take("in_pcloud")
    joined = root.peek("in_pcloud_concat")
    found = named if isinstance(named, list) else [named] if named else []
    if isinstance(joined, list):
        for number, entry in enumerate(joined):
            path = entry.get("in_pcloud") if isinstance(entry, dict) else entry
            if isinstance(path, str):
                source.used.add(
                    ("in_pcloud_concat", number)
                    + (("in_pcloud",) if isinstance(entry, dict) else ())
                )
                found = [*found, path]
    paths = [path for path in found if isinstance(path, str)]
    remote = [path for path in paths if "://" in path]
    if remote:
        notes.append(
            f"clouds: {', '.join(remote)} is not a file; download it and name the file"
        )
    paths = [path for path in paths if path not in remote]
    if len(paths) > 1 and not joined:
        notes.append(
            "clouds: VL3D trains a separate model on each input; this program trains "
            "one network on all of them"
        )
    if any(not path.startswith("/") for path in paths):
        notes.append(
            "clouds: paths are relative to this file; in VL3D they are relative to the "
            "current folder"
        )
    return paths


def features(source: Vl3dSource, train: Part, notes: list[str]) -> list:
    """Inputs of the network: dimensions of the file, or features computed here."""
    mined, wanted = _mined(source)
    inner, outer = train.texts("model_args", "fnames"), train.texts("fnames")
    listed = inner or outer or []
    names = wanted if listed[:1] == ["AUTO"] else listed
    result: list[str | dict] = []
    omitted = []
    for name in dict.fromkeys(names):
        feature = mined.get(name)
        if name == CONSTANT:
            omitted.append(f"`{name}` is constant")
        elif name not in mined:
            result.append(name)
        elif feature is None:
            omitted.append(f"only VL3D computes `{name}`")
        elif feature not in result:
            result.append(feature)
    if omitted:
        notes.append(f"features: left out: {'; '.join(omitted)}")
    if not result:
        result = ["height"]
        notes.append(
            "features: the VL3D network has coordinates alone; this program needs a "
            "feature and uses `height` above the local minimum"
        )
    plain = [name for name in result if isinstance(name, str) and name != "height"]
    if plain:
        notes.append(
            f"features: {', '.join(plain)} must be dimensions of the files, as in VL3D"
        )
    return result


def _mined(source: Vl3dSource) -> tuple[dict[str, dict | None], list[str]]:
    """Features that the miners compute, and the names that ``AUTO`` stands for."""
    known: dict[str, dict | None] = {}
    names: list[str] = []
    for base in source.components:
        part = Part(source, base)
        if base == source.chosen:
            break
        own = _names(part, "fnames")
        if part.peek("miner") is None:
            names = own if own and own[0] != "AUTO" else names
            continue
        radius = part.peek("radius")
        if radius is None:
            radius = part.peek("neighborhood", "radius")
        suffix = f"_r{radius}"
        if part.peek("neighborhood", "separation_factor") is not None:
            suffix += f"_sep{part.peek('neighborhood', 'separation_factor')}"
        renamed = _names(part, "frenames") or [f"{name}{suffix}" for name in own]
        for name, output in zip(own, renamed, strict=False):
            ours = MINED.get(name.lower().replace("_", ""))
            usable = ours and isinstance(radius, int | float) and radius > 0
            known[output] = {"name": ours, "radius": radius} if usable else None
            if usable:
                for key in ("miner", "fnames", "frenames", "radius"):
                    part.take(key)
                part.take("neighborhood", "radius")
        for output in renamed[len(own) :]:
            known[output] = None
        names = [*names, *renamed]
    return known, names


def _names(part: Part, key: str) -> list[str]:
    value = part.peek(key)
    if isinstance(value, list):
        return [name for name in value if isinstance(name, str)]
    return []
