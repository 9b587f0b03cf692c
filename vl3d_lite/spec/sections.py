"""Nodes of YAML as sections of the spec, with an error for each wrong value."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Union

from vl3d_lite.spec.base import KeyPath, Section
from vl3d_lite.spec.keys import key_name, unknown_key
from vl3d_lite.spec.kinds import Kind, fields_of, kind_of
from vl3d_lite.spec.merge import expand_short_form
from vl3d_lite.spec.nodes import ErrorLine, Node, Position, is_text
from vl3d_lite.spec.renamed import renamed_key, renamed_value
from vl3d_lite.spec.suggestions import closest, did_you_mean

_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")  # 18 digits fit into int64
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
_BOOLEANS = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_FAILED: Any = object()


@dataclass
class SectionReader:
    """Reads nodes by the schema and records the position of each value.

    A section is built without pydantic's validation, so that a section with errors
    still takes part in the checks for further ones: it then lacks the values that
    already have an error.

    Args:
        errors: Receives the errors found.
        complete: Whether every file was read, so that a missing key is an error.

    Attributes:
        positions: Position of each value.
        keys: Position of each key.
    """

    errors: list[ErrorLine]
    complete: bool
    positions: dict[KeyPath, Position] = field(default_factory=dict)
    keys: dict[KeyPath, Position] = field(default_factory=dict)

    def add_error(self, position: Position, message: str) -> None:
        """Record an error."""
        self.errors.append(ErrorLine(position, message))

    def section(self, node: Node, model: type[Section], location: KeyPath) -> Section:
        """Read a section; it lacks each value that has an error."""
        self.positions[location] = node.position
        kind = kind_of(model)
        node = expand_short_form(node, kind)
        values: dict[str, Any] = {}
        lacking = set(fields_of(model))
        if isinstance(node.value, dict):
            lacking = self._missing(node, model, location)
            values = self._values(node, model, location, lacking)
        else:
            self._add_type_error(node, kind, location)
        section = model.model_construct(**values)
        for key in lacking:
            vars(section).pop(key, None)
        self._add_violations(section, location)
        return section

    def nearest(self, location: KeyPath) -> Position:
        """The position of a value, or of the nearest key above it."""
        if location in self.positions:
            return self.positions[location]
        while location not in self.keys and location not in self.positions:
            location = location[:-1]
        if location in self.keys:
            return self.keys[location]
        return self.positions[location]

    def _values(
        self, node: Node, model: type[Section], location: KeyPath, lacking: set[str]
    ) -> dict[str, Any]:
        """Read the values of a section; keys of wrong values join `lacking`."""
        assert isinstance(node.value, dict)
        kinds = fields_of(model)
        values = {}
        for key, entry in node.value.items():
            inner = (*location, key)
            self.keys[inner] = entry.key
            if key not in kinds:
                self.add_error(entry.key, unknown_key(inner, model))
                new = renamed_key(inner)
                if new and new not in node.value:
                    lacking.add(new)  # Its default would cause further errors.
                continue
            value = self._value(entry.node, kinds[key], inner)
            if value is _FAILED:
                lacking.add(key)
            else:
                values[key] = value
        return values

    def _value(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        """The value of a node, or `_FAILED` after an error."""
        self.positions[location] = node.position
        if node.is_null and kind.nullable:
            return None
        if kind.base is Union:
            kind = _alternative(node, kind)
        if kind.section:
            return self.section(node, kind.section, location)
        if kind.base is list:
            value = self._list(node, kind, location)
        elif kind.base is dict:
            value = self._mapping(node, kind, location)
        else:
            value = _scalar(node, kind)
            if value is _FAILED:
                self._add_type_error(node, kind, location)
        if value is not _FAILED and (limit := kind.violated_limit(value)):
            received = len(value) if isinstance(value, list | dict) else node.received
            self.add_error(
                node.position,
                f"`{key_name(location)}` must be {limit}. Received: {received}",
            )
            return _FAILED
        return value

    def _missing(self, node: Node, model: type[Section], location: KeyPath) -> set[str]:
        """Add an error for each required key without a value; return these keys."""
        assert isinstance(node.value, dict)
        missing = {
            name
            for name, info in model.model_fields.items()
            if info.is_required() and name not in node.value
        }
        for name in sorted(missing) if self.complete else ():
            info = model.model_fields[name]
            meaning = " ".join((info.description or "").split())
            self.add_error(
                self.keys.get(location, node.position),
                f"`{key_name((*location, name))}` is missing: "
                f"{fields_of(model)[name].expected}. {meaning}".rstrip(),
            )
        return missing

    def _list(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        items = node.value
        if not isinstance(items, list):
            if not kind.single:
                return self._add_type_error(node, kind, location)
            items = [node]
        values = [
            self._value(item, kind.element, (*location, number))
            for number, item in enumerate(items)
        ]
        if not any(value is _FAILED for value in values):
            return values
        if not kind.element.choices:
            return _FAILED
        # In a list of names, such as blocks, the known names are still checked
        # against other keys, and each unknown name counts as the closest one.
        return [
            _closest_choice(item, kind.element) if value is _FAILED else value
            for item, value in zip(items, values, strict=True)
        ]

    def _mapping(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        node = expand_short_form(node, kind)
        if not isinstance(node.value, dict):
            return self._add_type_error(node, kind, location)
        values = {}
        for key, entry in node.value.items():
            self.keys[*location, key] = entry.key
            values[key] = self._value(entry.node, kind.element, (*location, key))
        return values

    def _add_type_error(self, node: Node, kind: Kind, location: KeyPath) -> Any:
        """Add an error about a value of another type or choice; return `_FAILED`."""
        hint = ""
        choices = _choices(kind)
        if new := renamed_value(location, node.value):
            hint = f", which has been renamed; use `{new}`"
        elif choices and isinstance(node.value, str):
            hint = did_you_mean(node.value, choices)
        self.add_error(
            node.position,
            f"`{key_name(location) or 'the spec'}` must be {kind.expected}. "
            f"Received: {node.received}{hint}",
        )
        return _FAILED

    def _add_violations(self, section: Section, location: KeyPath) -> None:
        for check in section.violations():
            try:
                for violation in check:
                    inner = self._first_written(location, violation.locations)
                    if self.errors and not all(is_text(str(key)) for key in inner):
                        continue  # the key is an error already
                    message = f"`{key_name(inner)}`: {violation.message}"
                    self.add_error(self.nearest(inner), message)
            except AttributeError:
                # The check needs a value that already has an error.
                if not self.errors:
                    raise

    def _first_written(self, base: KeyPath, candidates: Sequence[KeyPath]) -> KeyPath:
        """The first candidate that the user wrote; else the first of all."""
        locations = [(*base, *candidate) for candidate in candidates]
        written = (location for location in locations if location in self.positions)
        return next(written, locations[0])


def _choices(kind: Kind) -> list[str]:
    return [c for option in (kind, *kind.alternatives) for c in option.choices]


def _closest_choice(node: Node, kind: Kind) -> str:
    text = node.value if isinstance(node.value, str) else ""
    return closest(text, kind.choices) or text


def _alternative(node: Node, kind: Kind) -> Kind:
    """The member of a union that a node is read as: a list, mapping or scalar."""
    for alternative in kind.alternatives:
        is_mapping = alternative.base is dict or alternative.section is not None
        if isinstance(node.value, dict) and is_mapping:
            return alternative
        if isinstance(node.value, list) and alternative.base is list:
            return alternative
        if isinstance(node.value, str) and alternative.base is str:
            return alternative
    return kind


def _scalar(node: Node, kind: Kind) -> Any:
    if not isinstance(node.value, str):
        return _FAILED
    text = node.value
    if choices := _choices(kind):
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
