"""VL3D's JSON to a spec: what could be kept, what was chosen, what was dropped."""

import json
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vl3d_lite.errors import SpecError
from vl3d_lite.guide.vl3d import (
    inputs as vl3d_inputs,
)
from vl3d_lite.guide.vl3d import (
    network as vl3d_network,
)
from vl3d_lite.guide.vl3d import (
    training as vl3d_training,
)
from vl3d_lite.guide.vl3d.dropped import as_lines, dropped
from vl3d_lite.guide.vl3d.source import Part, Vl3dSource

WIDTH = 86
PREDICT = (
    "a trained run of VL3D cannot be read. Train with this program, then "
    "`vl3d-lite predict RUN CLOUD... --output FOLDER`"
)

WEIGHTS = ("model_args", "model_handling", "class_weight")


@dataclass(frozen=True)
class Conversion:
    """A spec made from VL3D's.

    Args:
        source: The VL3D spec.
        sections: The spec's content, without defaults.
        notes: What was chosen or replaced, a sentence each.
        dropped: Places of VL3D's spec that were not used, by reason.
        missing: Sections that only the user can write: a line to start from, and
            why.
        comments: A comment for the line of a class.
    """

    source: Path
    sections: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, tuple[str, str]] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)

    def report(self) -> str:
        """What a user should know about it, as plain text."""
        return f"{self._to_look_at()}\n\n{self._dropped()}"

    def text(self) -> str:
        """The spec as YAML: notes as comments before it, what was dropped after it."""
        title = f"Converted by `vl3d-lite convert` from {self.source.name}."
        head = _comment(f"{title}\n\n{self._to_look_at()}")
        return "\n".join([*head, *self._body(), *_comment(self._dropped())]) + "\n"

    def _to_look_at(self) -> str:
        lines = [f"{name}: {why}" for name, (_, why) in self.missing.items()]
        title = "Lines you must complete, they stand below as comments:"
        add = [_listed(title, lines)] if lines else []
        notes = _listed("Chosen or replaced, please look at it:", self.notes)
        return "\n\n".join([*add, notes])

    def _dropped(self) -> str:
        count = sum(map(len, self.dropped.values()))
        title = f"Dropped, {count} values:"
        return "\n".join([title, *as_lines(self.dropped, WIDTH)])

    def _body(self) -> list[str]:
        lines = []
        for name, value in self.sections.items():
            if name == "classes":
                lines.append("classes:")
                for label, entry in value.items():
                    line = f"  {_flow(label)}: {_flow(entry)}"
                    comment = self.comments.get(label)
                    lines.append(f"{line}  # {comment}" if comment else line)
            elif name == "model":
                lines += ["model:", "  stages:"]
                lines += [f"    - {_flow(stage)}" for stage in value["stages"]]
                rest = {k: v for k, v in value.items() if k != "stages"}
                lines += [f"  {key}: {_flow(entry)}" for key, entry in rest.items()]
            elif name == "training":
                lines.append("training:")
                lines += [f"  {key}: {_flow(entry)}" for key, entry in value.items()]
            else:
                lines.append(f"{name}: {_flow(value)}")
        return [*lines, *(f"# {n}: {line}" for n, (line, _) in self.missing.items())]


def convert(path: Path) -> Conversion:
    """Translate a VL3D spec that trains a network.

    Args:
        path: A JSON file of VL3D.

    Raises:
        DataError: It cannot be read.
        SpecError: It is not a VL3D spec, or trains no network.
    """
    return convert_source(Vl3dSource.read(path))


def convert_source(source: Vl3dSource) -> Conversion:
    """Translate a VL3D spec that was read."""
    trains = source.of_kind("train")
    if not trains:
        raise SpecError(
            f"{source.path}: trains nothing, so there is nothing to convert; {PREDICT}"
        )
    train = trains[0]
    source.chosen = train.base
    vl3d_network.require_network(train)
    notes: list[str] = []
    missing: dict[str, tuple[str, str]] = {}
    sections: dict[str, Any] = {}
    for number in range(1, len(trains)):
        notes.append(
            f"{trains[number].peek('train')}: a second training, which is left out"
        )
    seed = vl3d_training.seed(train)
    if seed is not None:
        sections["seed"] = seed
    found = vl3d_inputs.classes(source, train, notes)
    learned = {name: entry for name, entry in found.items() if entry["weight"] > 0}
    classes, comments = _classes(learned, found, notes)
    if len(classes) > 1:
        sections["classes"] = classes
    else:
        missing["classes"] = _no_classes(source, train)
    paths = vl3d_inputs.clouds(source, notes)
    if paths:
        sections["clouds"] = {"train": paths}
    notes.append(
        "clouds: VL3D's specs know no validation cloud; name one in "
        "`clouds.validation` to choose the best epoch, and what to classify in "
        "`clouds.predict`"
    )
    sections["features"] = vl3d_inputs.features(source, train, notes)
    fields, model = vl3d_network.fields_and_model(train, notes)
    if "grid_size" in fields:
        sections["fields"] = fields
    else:
        missing["fields"] = (
            _flow(fields | {"grid_size": "METERS"}),
            "the point spacing, or what is to be told apart, is not in VL3D's spec",
        )
    sections["model"] = model
    training = vl3d_training.training(train, fields.get("grid_size"), notes)
    weights = [entry["weight"] for entry in learned.values()]
    if train.take(*WEIGHTS) != vl3d_inputs.AUTO_WEIGHTS:
        training["class_weights"] = "none" if len(set(weights)) < 2 else weights
    sections["training"] = training
    prediction = vl3d_training.outputs(source, notes)
    if prediction:
        sections["prediction"] = prediction
    _take_labels(source, train)
    return Conversion(source.path, sections, notes, dropped(source), missing, comments)


def _classes(
    learned: dict, found: dict, notes: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    classes: dict[str, Any] = {}
    comments: dict[str, str] = {}
    merged = []
    for index, (name, entry) in enumerate(found.items()):
        codes = entry["codes"]
        if name not in learned:
            notes.append(
                f"classes: `{name}` had weight 0 in VL3D's loss and is left out: codes "
                f"{', '.join(map(str, codes))} are ignored in training and scores"
            )
        elif not codes:
            notes.append(f"classes: `{name}` gathers no code and is left out")
        else:
            several = {"codes": codes, "output_code": codes[0]}
            classes[name] = codes[0] if len(codes) == 1 else several
            if len(codes) > 1:
                merged.append(name)
            if codes[0] != index:
                comments[name] = f"VL3D writes {index}"
    if classes:
        notes.append(
            "classes: a code is the place of a name in VL3D's list, counted from 0, as "
            "VL3D takes it"
        )
    if merged:
        notes.append(
            f"classes: {', '.join(merged)}: of several codes, the first is written. "
            "Change `output_code` where another says it better"
        )
    if comments:
        notes.append(
            "classes: predictions carry these LAS codes, not VL3D's 0, 1, 2, ..."
        )
    return classes, comments


def _no_classes(source: Vl3dSource, train: Part) -> tuple[str, str]:
    """The line that the user must complete, and why."""
    found = vl3d_inputs.classes(source, train, [], first=True)
    learned = {name: entry for name, entry in found.items() if entry["weight"] > 0}
    guess, _ = _classes(learned, found, [])
    if len(guess) > 1:
        return _flow(guess), (
            "a name is in several groups; VL3D gives it to the last, which leaves a "
            "class without a code. The line gives it to the first"
        )
    return "{NAME: CODE, NAME: CODE}", (
        "VL3D's spec does not say the LAS codes of at least two classes"
    )


def _take_labels(source: Vl3dSource, train: Part) -> None:
    """Count as used what only says what a part is, where its part was used."""
    train.take("model_args", "pre_processing", "pre_processor")
    train.take("model_args", "model_handling", "training_sequencer", "type")


def _flow(value: Any) -> str:
    text = yaml.safe_dump(
        value,
        default_flow_style=True,
        sort_keys=False,
        allow_unicode=True,
        width=10**9,
    )
    text = text.removesuffix("\n").removesuffix("\n...").rstrip()
    # JSON is YAML, and keeps a name that has line breaks in one line.
    return json.dumps(value, ensure_ascii=False) if "\n" in text else text


def _comment(text: str) -> list[str]:
    # Names come from a file; one with a line break must not end the comment.
    lines = text.split("\n")
    return [f"# {' '.join(line.splitlines())}".rstrip() for line in lines]


def _listed(title: str, lines: list[str]) -> str:
    wrapped = [
        textwrap.fill(
            line,
            WIDTH,
            initial_indent="- ",
            subsequent_indent="  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    ]
    return "\n".join([title, *wrapped])
