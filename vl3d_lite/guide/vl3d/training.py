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
    """The section ``training``, but for class weights."""
    model = train.part("model_args")
    handling = model.part("model_handling")
    before = model.part("pre_processing")
    epochs = handling.whole("training_epochs", default=100)
    batch = handling.whole("batch_size", default=16)
    entry: dict[str, Any] = {"epochs": epochs}
    fields = _fields_of_an_epoch(before)
    if fields is not None:
        entry["steps_per_epoch"] = math.ceil(fields / batch)
        notes.append(
            f"training: {fields} fields an epoch in batches of {batch}, {epochs} "
            f"epochs: {entry['steps_per_epoch'] * epochs:,} steps, as many as in VL3D. "
            "Try fewer first: `--set training.epochs=...`"
        )
    entry["batch_size"] = batch
    entry |= _optimizer(model.part("compilation_args", "optimizer"), entry, notes)
    if entry["schedule"] == "constant":
        entry |= _plateau(handling.part("learning_rate_on_plateau"), epochs)
    _loss(model.part("compilation_args", "loss"), notes)
    augmentation = _augmentation(handling, grid_size, notes)
    if augmentation:
        entry["augmentation"] = augmentation
    patience = handling.whole("early_stopping", "patience")
    if patience:
        entry["early_stopping"] = patience
        notes.append(
            "training.early_stopping: watches validation mIoU, so it needs "
            "`clouds.validation`; VL3D watches "
            f"`{handling.peek('early_stopping', 'monitor') or 'loss'}`"
        )
    return entry


def _fields_of_an_epoch(before: Part) -> int | None:
    drawn = before.peek("training_class_distribution")
    if (
        isinstance(drawn, list)
        and all(isinstance(n, int) for n in drawn)
        and sum(drawn)
    ):
        return sum(drawn)
    if before.peek("support_strategy") == "fps":
        return before.whole("support_strategy_num_points", default=1000)
    return None


def _optimizer(optimizer: Part, known: dict, notes: list[str]) -> dict:
    name = optimizer.text("algorithm", default="Adam")
    entry: dict[str, Any] = {"optimizer": OPTIMIZERS.get(name.lower(), "adam")}
    if name.lower() not in OPTIMIZERS:
        notes.append(f"training.optimizer: {name} is replaced by adam")
    if entry["optimizer"] == "sgd":
        notes.append("training.optimizer: sgd has Nesterov momentum 0.9, VL3D's none")
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
        notes.append(f"training.schedule: `{schedule}` is replaced by exponential")
        return entry | {"schedule": "exponential"}
    steps = optimizer.number("learning_rate", "schedule_args", "decay_steps")
    factor = optimizer.number("learning_rate", "schedule_args", "decay_rate")
    if "steps_per_epoch" not in known or not steps or not factor:
        notes.append(
            f"training.schedule: VL3D multiplies the rate by {factor} every {steps} "
            "steps; how many an epoch has is not known, so the default decay is kept"
        )
        return entry | {"schedule": "exponential"}
    total = known["steps_per_epoch"] * known["epochs"]
    decay = max(1e-9, float(f"{factor ** (total / steps):.3g}"))
    return entry | {"schedule": {"name": "exponential", "decay": decay}}


def _plateau(plateau: Part, epochs: int) -> dict:
    patience = plateau.peek("patience")
    if not isinstance(patience, int) or patience >= epochs:
        return {}  # it would never act
    factor = plateau.number("factor", default=0.1)
    patience = plateau.whole("patience")
    return {"schedule": {"name": "plateau", "decay": factor, "patience": patience}}


def _loss(loss: Part, notes: list[str]) -> None:
    name = loss.text("function")
    if name and name.lower() not in LOSSES:
        notes.append(f"training: the loss `{name}` is replaced by cross-entropy")


def _augmentation(handling: Part, grid_size: float | None, notes: list[str]) -> dict:
    base = ("training_sequencer", "augmentor", "transformations")
    changes = handling.peek(*base)
    if not isinstance(changes, list) or not changes:
        notes.append(
            "training.augmentation: VL3D had none; fields are turned, mirrored and "
            "scaled by default. `{rotation: false, flip: false, scale: 0}` turns it off"
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
        "training.augmentation: as in VL3D; rotation is by any angle about the "
        "vertical, jitter is in grid sizes"
    )
    return entry


def outputs(source: Vl3dSource, notes: list[str]) -> dict:
    """The section ``prediction``: what VL3D's evaluators would have written."""
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
    """The seed, or None."""
    value = train.take("random_seed")
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**32 else None
