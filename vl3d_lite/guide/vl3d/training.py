"""Training and outputs of a VL3D spec."""

import math
from typing import Any

from vl3d_lite.guide.vl3d.source import Part, Vl3dSource

OPTIMIZERS = {"adam": "adam", "adamw": "adamw", "sgd": "sgd"}
LOSSES = (
    "class_weighted_categorical_crossentropy",
    "class_weighted_binary_crossentropy",
    "categorical_crossentropy",
    "sparse_categorical_crossentropy",
    "binary_crossentropy",
)


def training(train: Part, grid_size: float | None, notes: list[str]) -> dict:
    """The section ``training``, except for class weights.

    Args:
        train: The component that trains.
        grid_size: Edge of the cells in meters; None if unknown.
        notes: Sentences for the user are added here.

    Raises:
        SpecError: VL3D would not accept a value.
    """
    model = train.part("model_args")
    handling = model.part("model_handling")
    before = model.part("pre_processing")
    epochs = handling.integer("training_epochs", default=100)
    batch = handling.integer("batch_size", default=16)
    entry: dict[str, Any] = {"epochs": epochs}
    fields = _fields_per_epoch(before)
    if fields is not None:
        entry["steps_per_epoch"] = math.ceil(fields / batch)
        notes.append(
            f"training: {fields} fields per epoch in batches of {batch}, {epochs} "
            f"epochs: {entry['steps_per_epoch'] * epochs:,} steps, as in VL3D. Try "
            "fewer first: `--set training.epochs=...`"
        )
    entry["batch_size"] = batch
    entry |= _optimizer(model.part("compilation_args", "optimizer"), entry, notes)
    if entry["schedule"] == "constant":
        entry |= _plateau(handling.part("learning_rate_on_plateau"), epochs)
    _loss(model.part("compilation_args", "loss"), notes)
    augmentation = _augmentation(handling, grid_size, notes)
    if augmentation:
        entry["augmentation"] = augmentation
    patience = handling.integer("early_stopping", "patience")
    if patience:
        entry["early_stopping"] = patience
        notes.append(
            "training.early_stopping: monitors validation mIoU and needs "
            "`clouds.validation`; VL3D monitors "
            f"`{handling.peek('early_stopping', 'monitor') or 'loss'}`"
        )
    return entry


def _fields_per_epoch(before: Part) -> int | None:
    """Number of training fields per epoch, or None if it depends on the clouds."""
    drawn = before.peek("training_class_distribution")
    if (
        isinstance(drawn, list)
        and all(isinstance(n, int) for n in drawn)
        and sum(drawn)
    ):
        return sum(drawn)
    if before.peek("support_strategy") == "fps":
        return before.integer("support_strategy_num_points", default=1000)
    return None


def _optimizer(optimizer: Part, known: dict, notes: list[str]) -> dict:
    name = optimizer.text("algorithm", default="Adam")
    entry: dict[str, Any] = {"optimizer": OPTIMIZERS.get(name.lower(), "adam")}
    if name.lower() not in OPTIMIZERS:
        notes.append(f"training.optimizer: adam replaces {name}")
    notes.append(
        "training.gradient_clipping: 10 by default, where VL3D clips no gradient; "
        "`null` turns it off"
    )
    if entry["optimizer"] == "sgd":
        notes.append("training.optimizer: sgd has Nesterov momentum 0.9, in VL3D none")
    rate = optimizer.peek("learning_rate")
    if not isinstance(rate, dict):
        rate = optimizer.number("learning_rate", default=0.001)
        return entry | {"learning_rate": rate, "schedule": "constant"}
    schedule = optimizer.text("learning_rate", "schedule")
    start = optimizer.number(
        "learning_rate", "schedule_args", "initial_learning_rate", default=0.001
    )
    entry["learning_rate"] = start
    if schedule != "exponential_decay":
        notes.append(f"training.schedule: exponential replaces `{schedule}`")
        return entry | {"schedule": "exponential"}
    steps = optimizer.number("learning_rate", "schedule_args", "decay_steps")
    factor = optimizer.number("learning_rate", "schedule_args", "decay_rate")
    if "steps_per_epoch" not in known or not steps or not factor:
        notes.append(
            f"training.schedule: VL3D multiplies the rate by {factor} every {steps} "
            "steps; the steps per epoch are unknown, so the default decay is used"
        )
        return entry | {"schedule": "exponential"}
    total = known["steps_per_epoch"] * known["epochs"]
    decay = max(1e-9, float(f"{factor ** (total / steps):.3g}"))
    return entry | {"schedule": {"name": "exponential", "decay": decay}}


def _plateau(plateau: Part, epochs: int) -> dict:
    patience = plateau.peek("patience")
    if not isinstance(patience, int) or patience >= epochs:
        return {}  # such a plateau never ends before the training does
    factor = plateau.number("factor", default=0.1)
    patience = plateau.integer("patience", default=patience)
    return {"schedule": {"name": "plateau", "decay": factor, "patience": patience}}


def _loss(loss: Part, notes: list[str]) -> None:
    name = loss.text("function")
    if name and name.lower() not in LOSSES:
        notes.append(f"training: cross-entropy replaces the loss `{name}`")


def _augmentation(handling: Part, grid_size: float | None, notes: list[str]) -> dict:
    base = ("training_sequencer", "augmentor", "transformations")
    changes = handling.peek(*base)
    if not isinstance(changes, list) or not changes:
        notes.append(
            "training.augmentation: none in VL3D; by default fields are rotated, "
            "flipped and scaled. `{rotation: false, flip: false, scale: 0}` turns that "
            "off"
        )
        return {}
    entry: dict[str, Any] = {"rotation": False, "flip": False, "scale": 0}
    for number, change in enumerate(changes):
        kind = change.get("type") if isinstance(change, dict) else None
        if kind == "Rotation" and change.get("axis") == [0, 0, 1]:
            handling.take(*base, number)
            entry["rotation"] = True
        elif kind == "Scale":
            ends = handling.part(*base, number).take("scale_distribution")
            ends = ends if isinstance(ends, dict) else {}
            low, high = ends.get("start"), ends.get("end")
            if isinstance(low, int | float) and isinstance(high, int | float):
                handling.take(*base, number)
                entry["scale"] = float(f"{max(abs(1 - low), abs(high - 1)):.3g}")
        elif kind == "Jitter":
            noise = change.get("noise_distribution")
            deviation = noise.get("stdev") if isinstance(noise, dict) else None
            if isinstance(deviation, int | float) and grid_size:
                handling.take(*base, number)
                entry["jitter"] = float(f"{deviation / grid_size:.3g}")
    notes.append(
        "training.augmentation: as in VL3D; fields are rotated by any angle about the "
        "vertical axis, and jitter is in grid sizes"
    )
    return entry


def outputs(source: Vl3dSource, notes: list[str]) -> dict:
    """The section ``prediction``: the dimensions that VL3D's evaluators write."""
    wanted = ["prediction", "confidence"]
    for part in source.of_kind("eval"):
        if part.peek("eval") != "ClassificationUncertaintyEvaluator":
            continue
        part.take("eval")
        for key, dimension in (
            ("include_weighted_entropy", "entropy"),
            ("include_probabilities", "probabilities"),
        ):
            if part.take(key) is True and dimension not in wanted:
                wanted.append(dimension)
    return {"write": wanted} if len(wanted) > 2 else {}


def seed(train: Part) -> int | None:
    """The seed, or None if absent or out of range."""
    value = train.take("random_seed")
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**32 else None
