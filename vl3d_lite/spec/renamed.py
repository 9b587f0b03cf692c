"""Keys and values of earlier versions and their names today."""

from vl3d_lite.spec.base import KeyPath

# Key path in the earlier version to the key today; `*` stands for any name.
RENAMED_KEYS = {
    "classes.*.write": "output_code",
    "fields.transfer": "interlevel_neighbors",
    "model.source_weights.mute": "zero_weight_values",
    "model.decoder.copies": "multiplicity",
    "training.start_from": "initial_weights",
    "prediction.keep": "keep_codes",
    "prediction.unsure": "min_confidence",
    "prediction.unsure_code": "reject_code",
    "evaluation.confident": "min_confidence",
    "evaluation.points": "min_points",
    "evaluation.distance": "link_distance",
}
# Key path to the values of the earlier version and the values today.
RENAMED_VALUES = {"model.kpconvx.order": {"seed": "vl3d", "official": "apple"}}


def renamed_key(location: KeyPath) -> str | None:
    """The name today of a key of an earlier version, or None."""
    for pattern, name in RENAMED_KEYS.items():
        if _matches(pattern, location):
            return name
    return None


def renamed_value(location: KeyPath, value: object) -> str | None:
    """The name today of a value of an earlier version, or None."""
    for pattern, values in RENAMED_VALUES.items():
        if _matches(pattern, location) and isinstance(value, str):
            return values.get(value)
    return None


def _matches(pattern: str, location: KeyPath) -> bool:
    parts = pattern.split(".")
    return len(parts) == len(location) and all(
        part in ("*", str(name)) for part, name in zip(parts, location, strict=True)
    )
