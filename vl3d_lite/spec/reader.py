"""A YAML file as a spec, or every complaint about it with its place."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

import yaml

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.spec.base import KeyPath, Section
from vl3d_lite.spec.kinds import Kind, fields_of, kind_of
from vl3d_lite.spec.merge import apply_overrides, expand_short_form, load
from vl3d_lite.spec.nodes import Complaint, Node, Position
from vl3d_lite.spec.reference import json_schema
from vl3d_lite.spec.schema.spec import Spec

__all__ = ["LoadedSpec", "dump_spec", "json_schema", "read_spec"]

_SPEC = kind_of(Spec)
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_FAILED = object()


@dataclass(frozen=True)
class LoadedSpec:
    """A spec and where it came from.

    Args:
        spec: With the patterns of `clouds` made absolute.
        path: Of the YAML file.
        base: The folder of the file.
        clouds: ``train``, ``validation`` and ``predict`` to the files found;
            empty where files were not looked for.
    """

    spec: Spec
    path: Path
    base: Path
    clouds: dict[str, list[Path]]


def read_spec(
    path: str | Path,
    overrides: Sequence[str] = (),
    check_files: bool = True,
    needs: Sequence[Literal["train", "validation", "predict"]] = (),
) -> LoadedSpec:
    """Read a spec; tell everything that is wrong with it at once.

    Values get their type from the schema, not from the way they look: `1e-3`
    is a number where one is expected, and `no` a name where one is.

    Args:
        path: YAML file. Paths in it are relative to it.
        overrides: ``a.b=c`` or ``a.0.b=c``, with a value in YAML; paths are
            relative to the current directory.
        check_files: Look for the clouds.
        needs: Lists of `clouds` that must not be empty.

    Raises:
        SpecError: A line ``file:line:column: what`` for each complaint.
    """
    path = Path(path)
    complaints: list[Complaint] = []
    root, complete = load(path, complaints, _SPEC)
    root = apply_overrides(root, overrides, complaints, _SPEC)
    reader = _Reader(complaints, complete)
    spec = None
    if complete or root.value:
        spec = reader.section(root, Spec, ())
        reader.need(spec, needs)
    clouds = reader.find_clouds(spec, check_files) if spec else {}
    if spec:
        reader.find_start(spec, check_files)
    if complaints:
        lines = dict.fromkeys(str(complaint) for complaint in sorted(complaints))
        raise SpecError("\n".join(lines))
    spec = Spec.model_validate(spec.model_dump(exclude_unset=True))
    return LoadedSpec(spec, path, path.parent.absolute(), clouds)


def dump_spec(spec: Spec, relative_to: Path | None = None) -> str:
    """A spec as YAML with every default written out, to be read again.

    Args:
        spec: As `read_spec` gives it.
        relative_to: The folder the text will be stored in; paths of clouds are
            written relative to it, or as they are.
    """
    content = _plain(spec)
    if relative_to is not None:
        for patterns in content["clouds"].values():
            patterns[:] = [os.path.relpath(p, relative_to) for p in patterns]
    return yaml.safe_dump(
        content,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=88,
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return {
            name: _plain(getattr(value, name))
            for name, info in type(value).model_fields.items()
            if getattr(value, name) is not None or info.default is not None
        }
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


@dataclass
class _Reader:
    """Reads nodes by the schema and remembers where each value stood.

    Args:
        complaints: What is wrong is appended here.
        complete: Whether a missing key may be complained about.
    """

    complaints: list[Complaint]
    complete: bool
    places: dict[KeyPath, Position] = field(default_factory=dict)
    keys: dict[KeyPath, Position] = field(default_factory=dict)

    def add_error(self, place: Position, message: str) -> None:
        self.complaints.append(Complaint(place, message))

    def read(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        """The value of a node, or `_FAILED` after a complaint."""
        self.places[location] = node.place
        if node.is_null and kind.nullable:
            return None
        if kind.section:
            return self.section(node, kind.section, location)
        if kind.base is Union:
            kind = self._alternative(node, kind)
        if kind.base is list:
            value = self._list(node, kind, location)
        elif kind.base is dict:
            value = self._mapping(node, kind, location)
        else:
            value = _scalar(node, kind)
            if value is _FAILED:
                self._expected(node, kind, location)
        if value is not _FAILED and (limit := kind.broken_limit(value)):
            received = len(value) if isinstance(value, list | dict) else node.received
            self.add_error(
                node.place, f"`{_name(location)}` must be {limit}. Received: {received}"
            )
            return _FAILED
        return value

    def section(self, node: Node, model: type[Section], location: KeyPath) -> Section:
        """A section that lacks what was complained about."""
        self.places[location] = node.place
        node = expand_short_form(node, kind_of(model))
        kinds = fields_of(model)
        values: dict[str, Any] = {}
        lacking = set(kinds)
        if isinstance(node.value, dict):
            lacking = self._missing(node, model, location)
            for key, entry in node.value.items():
                inner = (*location, key)
                self.keys[inner] = entry.key
                if key not in kinds:
                    self.add_error(entry.key, _unknown(inner, model))
                    continue
                value = self.read(entry.node, kinds[key], inner)
                if value is _FAILED:
                    lacking.add(key)
                else:
                    values[key] = value
        else:
            self._expected(node, kind_of(model), location)
        section = model.model_construct(**values)
        for key in lacking:
            vars(section).pop(key, None)
        self._tell_troubles(section, location)
        return section

    def _missing(self, node: Node, model: type[Section], location: KeyPath) -> set[str]:
        missing = {
            name
            for name, info in model.model_fields.items()
            if info.is_required() and name not in node.value
        }
        for name in sorted(missing) if self.complete else ():
            info = model.model_fields[name]
            meaning = " ".join((info.description or "").split())
            self.add_error(
                self.keys.get(location, node.place),
                f"`{_name((*location, name))}` is missing: "
                f"{fields_of(model)[name].expected}. {meaning}".rstrip(),
            )
        return missing

    def _list(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        items = node.value
        if not isinstance(items, list):
            if location[-1] != "codes":  # the one list that may be a single value
                return self._expected(node, kind, location)
            items = [node]
        values = [
            self.read(item, kind.item, (*location, number))
            for number, item in enumerate(items)
        ]
        return _FAILED if any(value is _FAILED for value in values) else values

    def _mapping(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        node = expand_short_form(node, kind)
        if not isinstance(node.value, dict):
            return self._expected(node, kind, location)
        values = {}
        for key, entry in node.value.items():
            self.keys[*location, key] = entry.key
            values[key] = self.read(entry.node, kind.item, (*location, key))
        return values

    def _alternative(self, node: Node, kind: Kind) -> Kind:
        for alternative in kind.alternatives:
            if isinstance(node.value, list) == (alternative.base is list):
                return alternative if alternative.base is list else kind
        return kind

    def _expected(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        guess = ""
        choices = [
            choice for option in (kind, *kind.alternatives) for choice in option.choices
        ]
        if choices and isinstance(node.value, str):
            close = get_close_matches(node.value, choices, n=1)
            guess = f"; did you mean `{close[0]}`?" if close else ""
        self.add_error(
            node.place,
            f"`{_name(location) or 'the spec'}` must be {kind.expected}. "
            f"Received: {node.received}{guess}",
        )
        return _FAILED

    def _tell_troubles(self, section: Section, location: KeyPath) -> None:
        for search in section.violations():
            try:
                for trouble in search:
                    inner = self._present(location, trouble.locations)
                    message = f"`{_name(inner)}`: {trouble.message}"
                    self.add_error(self._nearest(inner), message)
            except AttributeError:
                # It met a value that was already complained about.
                if not self.complaints:
                    raise

    def _present(self, base: KeyPath, candidates: Sequence[KeyPath]) -> KeyPath:
        locations = [(*base, *candidate) for candidate in candidates]
        written = (location for location in locations if location in self.places)
        return next(written, locations[0])

    def _nearest(self, location: KeyPath) -> Position:
        if location in self.places:
            return self.places[location]
        while location not in self.keys and location not in self.places:
            location = location[:-1]
        return self.keys.get(location, self.places.get(location))

    def need(self, spec: Section, needs: Sequence[str]) -> None:
        """Complain about lists of clouds that are empty."""
        clouds = vars(spec).get("clouds")
        for name in needs if self.complete and clouds else ():
            if vars(clouds).get(name) == []:
                self.add_error(
                    self._nearest(("clouds", name)),
                    f"`clouds.{name}` must name at least one LAS or LAZ file. "
                    "Received: none",
                )

    def find_clouds(self, spec: Section, check_files: bool) -> dict[str, list[Path]]:
        """Files of the clouds; their patterns become absolute in `spec`."""
        found = {}
        clouds = vars(spec).get("clouds")
        for name in fields_of(type(clouds)) if clouds else ():
            patterns = vars(clouds).get(name, [])
            absolute = [
                os.path.abspath(
                    self.places["clouds", name, number].base
                    / Path(pattern).expanduser()
                )
                for number, pattern in enumerate(patterns)
            ]
            files: dict[Path, None] = {}
            for number, pattern in enumerate(absolute) if check_files else ():
                files |= dict.fromkeys(self._files(pattern, name, number))
            found[name] = sorted(files)
            patterns[:] = absolute
        return found

    def find_start(self, spec: Section, check_files: bool) -> None:
        """Make the path of the run to start from absolute in `spec`."""
        training = vars(spec).get("training")
        start = vars(training).get("initial_weights") if training else None
        if start is None:
            return
        place = self.places["training", "initial_weights"]
        path = os.path.abspath(place.base / Path(start).expanduser())
        object.__setattr__(training, "initial_weights", path)
        if check_files and not os.path.isdir(path):
            self.add_error(
                place,
                f"`training.initial_weights` must be a run folder. Received: {start}",
            )

    def _files(self, pattern: str, name: str, number: int) -> list[Path]:
        from vl3d_lite.clouds.files import find_clouds

        place = self.places["clouds", name, number]
        try:
            return find_clouds([pattern], place.base)
        except DataError as error:
            self.add_error(place, f"`clouds.{name}[{number}]`: {error}")
            return []


def _scalar(node: Node, kind: Kind) -> Any:
    if not isinstance(node.value, str):
        return _FAILED
    text = node.value
    choices = [c for option in (kind, *kind.alternatives) for c in option.choices]
    if choices:
        return text if text in choices else _FAILED
    if kind.base is str:
        return _FAILED if node.is_null else text
    if not node.plain:
        return _FAILED
    if kind.base is bool:
        return _BOOLEANS.get(text, _FAILED)
    if kind.base is int:
        return int(text) if _INTEGER.fullmatch(text) else _FAILED
    if _NUMBER.fullmatch(text) and math.isfinite(float(text)):
        return float(text)
    return _FAILED


def _name(location: KeyPath) -> str:
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}"
    return name.removeprefix(".")


def _unknown(location: KeyPath, model: type[Section]) -> str:
    key = location[-1]
    message = f"unknown key `{_name(location)}`"
    own = list(fields_of(model))
    elsewhere = {
        name.rpartition(".")[2]: name for name in reversed(_all_keys()) if "." in name
    }
    if close := get_close_matches(key, own, n=1):
        return f"{message}; did you mean `{close[0]}`?"
    if key in _all_keys():
        return f"{message}; it belongs to the spec itself, not to a section"
    if key in elsewhere:
        return f"{message}; did you mean `{elsewhere[key]}`?"
    if close := get_close_matches(key, elsewhere, n=1, cutoff=0.8):
        return f"{message}; did you mean `{elsewhere[close[0]]}`?"
    return f"{message}. Known here: {', '.join(own)}"


@cache
def _all_keys() -> list[str]:
    """Every key of the schema, such as `model.stages[].points`."""

    def walk(kind: Kind, name: str):
        if kind.section:
            for key, child in fields_of(kind.section).items():
                full = f"{name}.{key}".removeprefix(".")
                yield full
                yield from walk(child, full)
        elif kind.item:
            suffix = "[]" if kind.base is list else ".<name>"
            yield from walk(kind.item, name + suffix)

    return list(walk(_SPEC, ""))
