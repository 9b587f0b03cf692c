"""Specs on top of specs: `extends` and the overrides of the command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from vl3d_lite.errors import DataError
from vl3d_lite.spec.class_lists import name_class_lists
from vl3d_lite.spec.kinds import Kind
from vl3d_lite.spec.nodes import (
    LARGEST_FILE,
    Entry,
    ErrorLine,
    Node,
    Position,
    parse,
)
from vl3d_lite.system import (
    expand_home,
    find_shipped,
    is_printable,
    reading_remedy,
    real_path,
    require_usable_path,
)

# `Position.file` of the first override, so that errors in overrides come last.
_OVERRIDES = 1_000_000


def load(path: Path, errors: list[ErrorLine], kind: Kind) -> tuple[Node, bool]:
    """Read a spec and the specs that it extends.

    Args:
        path: The spec.
        errors: Receives the errors found.
        kind: The kind of the whole spec.

    Returns:
        The merged mapping, and whether every file could be read. If not, a key
        that seems to be missing may be in the file that could not be read.
    """
    return _Loader(errors, kind).load(path, _first_position(path, 0), [])


@dataclass
class _Loader:
    errors: list[ErrorLine]
    kind: Kind
    # Specs read so far, by resolved path: several specs may extend the same one.
    known: dict[Path, tuple[Node, bool]] = field(default_factory=dict)

    def add_error(self, position: Position, message: str) -> None:
        self.errors.append(ErrorLine(position, message))

    def load(
        self, path: Path, origin: Position, chain: list[Path]
    ) -> tuple[Node, bool]:
        """Read one file, which `origin` names, after the files of `chain`."""
        start = _first_position(path, len(chain))
        empty = Node({}, start)
        resolved = real_path(path)
        if resolved in chain:
            circle = (*chain[chain.index(resolved) :], resolved)
            names = " -> ".join(file.name for file in circle)
            self.add_error(origin, f"`extends` goes in a circle: {names}")
            return empty, False
        if resolved in self.known:
            return self.known[resolved]
        text = self._read(path, origin, is_first=not chain)
        root = None if text is None else self._parse(text, start)
        if root is None or not isinstance(root.value, dict):
            return empty, False
        extends = root.value.pop("extends", None)
        root = name_class_lists(root, self.errors)
        complete = True
        if extends is not None:
            base, complete = self._bases(extends.node, path, [*chain, resolved])
            root = merge(base, root, self.kind, self.errors)
        self.known[resolved] = root, complete
        return root, complete

    def _bases(self, node: Node, path: Path, chain: list[Path]) -> tuple[Node, bool]:
        """Read the specs that `extends` of the spec at `path` names, the last on top.

        Returns:
            The merged mapping, and whether every file could be read.
        """
        merged, complete = Node({}, node.position), True
        for one in node.value if isinstance(node.value, list) else [node]:
            if not isinstance(one.value, str) or one.is_null:
                self.add_error(
                    one.position,
                    "`extends` must be the path of a spec, or a list of paths. "
                    f"Received: {one.received}",
                )
                complete = False
                continue
            try:
                require_usable_path(one.value)
            except DataError as error:
                if is_printable(one.value):  # else it is an error already
                    self.add_error(one.position, f"`extends`: {error}")
                complete = False
                continue
            named = find_shipped("configs", Path(one.value), path.parent)
            other = Path(os.path.normpath(path.parent / expand_home(named)))
            base, whole = self.load(other, one.position, chain)
            merged = merge(merged, base, self.kind, self.errors)
            complete &= whole
        return merged, complete

    def _read(self, path: Path, origin: Position, *, is_first: bool) -> bytes | None:
        try:
            if path.is_dir():
                raise IsADirectoryError(None, "it is a folder")
            if path.exists() and not path.is_file():  # it may be read for ever
                raise OSError(None, "it is a pipe or a device")
            with path.open("rb") as file:
                return file.read(LARGEST_FILE + 1)  # one more: `parse` refuses it
        except OSError as error:
            what = "the spec" if is_first else f"`extends`: {path}"
            remedy = reading_remedy(error) if error.errno else "name a YAML file"
            self.add_error(origin, f"{what} cannot be read: {error.strerror}; {remedy}")
            return None

    def _parse(self, text: bytes, start: Position) -> Node | None:
        found = len(self.errors)
        root = parse(text, start, self.errors)
        if root is None and len(self.errors) == found:
            self.add_error(
                start, "the spec is empty. It needs classes, features, fields and model"
            )
        if root is not None and not isinstance(root.value, dict):
            self.add_error(
                root.position,
                "a spec must be a mapping such as `seed: 7`. "
                f"Received: {root.received}",
            )
        return root


def _first_position(path: Path, file: int) -> Position:
    return Position(file, 1, 1, str(path), path.parent.absolute())


def merge(base: Node, top: Node, kind: Kind | None, errors: list[ErrorLine]) -> Node:
    """Lay a node over another.

    Mappings are merged, and a mapping of numbers over a list changes these entries
    of the list, counted from 0. All other values are replaced.
    """
    if not isinstance(top.value, dict):
        return top
    if isinstance(base.value, list) and kind and kind.base is list:
        return _merge_entries(base, top, kind, errors)
    base = expand_short_form(base, kind)
    if not isinstance(base.value, dict):
        return top
    merged = {}
    for key, entry in top.value.items():
        node = entry.node
        if key in base.value:
            child = kind and kind.child(key)
            node = merge(base.value[key].node, node, child, errors)
        merged[key] = Entry(entry.key, node)
    # A spec that names all classes again sets their order.
    names = kind is not None and kind.base is dict
    own_order = names and base.value.keys() <= merged.keys()
    return Node(merged if own_order else {**base.value, **merged}, top.position)


def _merge_entries(base: Node, top: Node, kind: Kind, errors: list[ErrorLine]) -> Node:
    """Change the entries of a list that a mapping of numbers names."""
    items = list(cast("list[Node]", base.value))
    entries = cast("dict[str, Entry]", top.value)
    if not any(key.isdecimal() for key in entries):
        return top
    for key, entry in entries.items():
        # More than 18 digits do not fit into an index.
        if not (key.isdecimal() and len(key) < 19 and int(key) < len(items)):
            errors.append(
                ErrorLine(
                    entry.key,
                    f"the list that this changes has {len(items)} entries, counted "
                    f"from 0. Received: {key}",
                )
            )
            continue
        number = int(key)
        items[number] = merge(items[number], entry.node, kind.item, errors)
    return Node(items, top.position)


def expand_short_form(node: Node, kind: Kind | None) -> Node:
    """Expand `height` to `{name: height}`, and an empty value (`training:`) to `{}`."""
    if kind is None or isinstance(node.value, dict):
        return node
    section = kind.section
    if section is None and kind.base is not dict:
        return node
    if node.is_null and not kind.nullable:
        return replace(node, value={})
    key = section.short_form if section else None
    return replace(node, value={key: Entry(node.position, node)}) if key else node


def apply_overrides(
    root: Node, overrides: Sequence[str], errors: list[ErrorLine], kind: Kind
) -> Node:
    """Apply overrides such as `a.b=c` or `a.0.b=c` in order.

    Args:
        root: The spec.
        overrides: Each a key path and a value in YAML: `[a, b]` is a list. Paths
            in it are relative to the current directory.
        errors: Receives the errors found.
        kind: The kind of the whole spec.
    """
    for number, override in enumerate(overrides):
        path, equals, text = override.partition("=")
        path = path.strip()
        name = f"--set {path}"
        position = Position(_OVERRIDES + number, 0, 0, name, Path.cwd())
        if not equals or not all(path.split(".")):
            message = (
                f"must be KEY=VALUE, such as training.epochs=5. Received: {override}"
            )
            errors.append(ErrorLine(position, message))
            continue
        found = len(errors)
        value = parse(text, position, errors)
        if len(errors) > found:
            continue
        value = value or Node("", position)
        root = _Override(value, errors).apply(root, path.split("."), (), kind)
    return root


@dataclass
class _Override:
    value: Node
    errors: list[ErrorLine]

    def apply(
        self, node: Node, rest: list[str], done: tuple[str, ...], kind: Kind | None
    ) -> Node:
        """Replace the value at the key path `rest` below `node`, which is at `done`."""
        if not rest:
            return self.value
        head, *tail = rest
        node = expand_short_form(node, kind)
        child = kind and kind.child(head)
        path = ".".join(done) or "the spec"
        if isinstance(node.value, list):
            if not (head.isdecimal() and int(head) < len(node.value)):
                return self._refuse(
                    node,
                    f"`{path}` has {len(node.value)} entries, counted from 0. "
                    f"Received: {head}",
                )
            items = list(node.value)
            items[int(head)] = self.apply(items[int(head)], tail, (*done, head), child)
            return replace(node, value=items)
        if not isinstance(node.value, dict):
            return self._refuse(
                node, f"`{path}` is {node.received} and has no key `{head}`"
            )
        position = self.value.position
        known = node.value.get(head, Entry(position, Node({}, position)))
        key = position if not tail or head not in node.value else known.key
        entry = Entry(key, self.apply(known.node, tail, (*done, head), child))
        return replace(node, value={**node.value, head: entry})

    def _refuse(self, node: Node, message: str) -> Node:
        self.errors.append(ErrorLine(self.value.position, message))
        return node
