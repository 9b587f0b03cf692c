"""Convert a JSON spec of VL3D, with notes on what was chosen and dropped."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vl3d_lite.errors import SpecError
from vl3d_lite.guide.vl3d import inputs, network, training
from vl3d_lite.guide.vl3d.dropped import as_lines, dropped
from vl3d_lite.guide.vl3d.source import Part, Vl3dSource
from vl3d_lite.system import printable

# Names of classes that collect objects of several kinds.
COLLECTIVE = {"other", "others", "rest", "misc", "unclassified", "unlabeled"}

WIDTH = 86  # characters of a comment, after `# `
MAX_LINE = 88  # characters; the value of a longer line is on the next line
PREDICT = (
    "trained models of VL3D cannot be read. Train with this program, then run "
    "`vl3d-lite predict RUN CLOUD... --output FOLDER`"
)
WEIGHTS = ("model_args", "model_handling", "class_weight")


@dataclass(frozen=True)
class Conversion:
    """A spec converted from one of VL3D.

    Args:
        source: The VL3D spec.
        sections: Content of the spec, without defaults.
        notes: What was chosen or replaced, one sentence each.
        dropped: Keys of the VL3D spec that were not used, by reason.
        missing: Sections that the user must complete: a line to start from and the
            reason.
        comments: Comment on the line of a class, by its name.
    """

    source: Path
    sections: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    dropped: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, tuple[str, str]] = field(default_factory=dict)
    comments: Mapping[str, str] = field(default_factory=dict)

    def report(self) -> str:
        """Notes and dropped values, as plain text."""
        return f"{self._notes_text()}\n\n{self._dropped_text()}"

    def text(self) -> str:
        """The spec as YAML, with notes as comments above and dropped values below."""
        title = f"Converted by `vl3d-lite convert` from {self.source.name}."
        head = _comment(f"{title}\n\n{self._notes_text()}")
        return "\n".join([*head, *self._body(), *_comment(self._dropped_text())]) + "\n"

    def _notes_text(self) -> str:
        lines = [f"{name}: {why}" for name, (_, why) in self.missing.items()]
        title = "Complete these lines, which are comments below:"
        incomplete = [_listed(title, lines)] if lines else []
        notes = _listed("Chosen or replaced; please check:", self.notes)
        return "\n\n".join([*incomplete, notes])

    def _dropped_text(self) -> str:
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
                flow = _flow(value)
                short = len(f"{name}: {flow}") <= MAX_LINE
                lines += [f"{name}: {flow}"] if short else [f"{name}:", f"  {flow}"]
        return [*lines, *(f"# {n}: {line}" for n, (line, _) in self.missing.items())]


def convert(path: Path) -> Conversion:
    """Convert a VL3D spec that trains a network.

    Args:
        path: JSON file of VL3D.

    Raises:
        DataError: The file cannot be read.
        SpecError: It is not a VL3D spec, or it trains no network.
    """
    return convert_source(Vl3dSource.read(path))


def convert_source(source: Vl3dSource) -> Conversion:
    """Convert a VL3D spec that was read."""
    trains = source.of_kind("train")
    if not trains:
        raise SpecError(
            f"{source.path}: trains nothing, so there is nothing to convert; {PREDICT}"
        )
    train = trains[0]
    source.chosen = train.base
    network.require_network(train)
    notes: list[str] = []
    missing: dict[str, tuple[str, str]] = {}
    sections: dict[str, Any] = {}
    for number in range(1, len(trains)):
        notes.append(
            f"{trains[number].peek('train')}: a second training; it is left out"
        )
    seed = training.seed(train)
    if seed is not None:
        sections["seed"] = seed
    found = inputs.classes(source, train, notes)
    learned = {name: entry for name, entry in found.items() if entry["weight"] > 0}
    classes, comments = _classes(learned, found, notes)
    if len(classes) > 1:
        sections["classes"] = classes
    else:
        missing["classes"] = _no_classes(source, train)
    paths = inputs.clouds(source, notes)
    if paths:
        sections["clouds"] = {"train": paths}
    notes.append(
        "clouds: VL3D specs have no validation clouds; name one in "
        "`clouds.validation` to select the best epoch, and clouds to classify in "
        "`clouds.predict`"
    )
    sections["features"] = inputs.features(source, train, notes)
    fields, model = network.fields_and_model(train, notes)
    if "grid_size" in fields:
        sections["fields"] = fields
    else:
        missing["fields"] = (
            _flow(fields | {"grid_size": "METERS"}),
            "the VL3D spec does not contain the point spacing or the required detail",
        )
    sections["model"] = model
    settings = training.training(train, fields.get("grid_size"), notes)
    weights = [entry["weight"] for entry in learned.values()]
    if train.take(*WEIGHTS) != inputs.AUTO_WEIGHTS:
        settings["class_weights"] = (
            "none"
            if len(set(weights)) < 2
            else dict(zip(learned, weights, strict=True))
        )
    sections["training"] = settings
    prediction = training.outputs(source, notes)
    if prediction:
        sections["prediction"] = prediction
    _take_labels(source, train)
    return Conversion(source.path, sections, notes, dropped(source), missing, comments)


def _free_code(found: dict, given: Sequence[int]) -> int:
    """The code of a class that collects others: unclassified, or one of no class.

    Args:
        found: The classes with their codes.
        given: Codes that other such classes are written as.
    """
    taken = {code for entry in found.values() for code in entry["codes"]}
    taken.update(given)
    # 1 and 0 mean unclassified in LAS; codes from 64 on are free for users.
    return next(code for code in (1, 0, *range(64, 256)) if code not in taken)


def _classes(
    learned: dict, found: dict, notes: list[str]
) -> tuple[dict[str, Any], dict[str, str]]:
    classes: dict[str, Any] = {}
    comments: dict[str, str] = {}
    merged: list[str] = []
    collective: dict[str, int] = {}
    for index, (name, entry) in enumerate(found.items()):
        codes = entry["codes"]
        if name not in learned:
            notes.append(
                f"classes: `{name}` has weight 0 in the loss of VL3D and is left out; "
                f"codes {', '.join(map(str, codes))} are ignored in training and scores"
            )
        elif not codes:
            notes.append(f"classes: `{name}` has no code and is left out")
        else:
            code = codes[0]
            if name.lower() in COLLECTIVE and len(codes) > 1:
                code = _free_code(found, list(collective.values()))
                collective[name] = code
            several = {"codes": codes, "output_code": code}
            classes[name] = codes[0] if len(codes) == 1 else several
            if len(codes) > 1 and code == codes[0]:
                merged.append(name)
            if codes[0] != index:
                comments[name] = f"VL3D writes {index}"
    if classes:
        notes.append(
            "classes: the code of a name is its index in the list of VL3D, from 0"
        )
    if collective:
        written = [
            f"`{name}` is written as {code}, a code of no class"
            for name, code in collective.items()
        ]
        notes.append(
            f"classes: {'; '.join(written)}. Its first code would give other "
            "objects the name of one of them"
        )
    if merged:
        notes.append(
            f"classes: {', '.join(merged)}: predictions write the first of several "
            "codes. Edit `output_code` to write another"
        )
    if comments:
        notes.append(
            "classes: predictions contain these LAS codes, not the indices of VL3D"
        )
    return classes, comments


def _no_classes(source: Vl3dSource, train: Part) -> tuple[str, str]:
    """The line that the user must complete, and the reason."""
    found = inputs.classes(source, train, [], first=True)
    learned = {name: entry for name, entry in found.items() if entry["weight"] > 0}
    proposal, _ = _classes(learned, found, [])
    if len(proposal) > 1:
        return _flow(proposal), (
            "a name is in several groups; VL3D assigns it to the last, which leaves a "
            "class without a code. The line assigns it to the first"
        )
    return "{NAME: CODE, NAME: CODE}", (
        "the VL3D spec does not define the LAS codes of at least two classes"
    )


def _take_labels(source: Vl3dSource, train: Part) -> None:
    """Count the types of parts as used whose other values were used."""
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
    return [f"# {printable(' '.join(line.splitlines()))}".rstrip() for line in lines]


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
