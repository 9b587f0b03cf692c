"""Specs on top of specs: `extends` and the overrides of the command line."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vl3d_lite.spec.kinds import Kind
from vl3d_lite.spec.nodes import (
    LARGEST_FILE,
    Complaint,
    Entry,
    Node,
    Position,
    parse,
)

_OVERRIDES = 1_000_000  # `Position.file` of the first override: complaints come last


def load(path: Path, complaints: list[Complaint], kind: Kind) -> tuple[Node, bool]:
    """Read a spec and those it extends.

    Args:
        path: Of the spec.
        complaints: What is wrong is appended here.
        kind: Of the whole spec.

    Returns:
        The merged mapping, and whether every file could be read: if not, keys
        may be missing that the user did give.
    """
    return _load(path, _first_place(path, 0), complaints, kind, [])


def _load(path, origin, complaints, kind, chain) -> tuple[Node, bool]:
    """`origin` is where the file was asked for; `chain` are those that ask."""
    start = _first_place(path, len(chain))
    empty = Node({}, start)
    resolved = path.resolve()
    if resolved in chain:
        names = " -> ".join(p.name for p in (*chain[chain.index(resolved) :], resolved))
        complaints.append(Complaint(origin, f"`extends` goes in a circle: {names}"))
        return empty, False
    try:
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        reason = error.strerror or "unknown reason"
        where = "the spec" if not chain else f"`extends`: {path}"
        complaints.append(Complaint(origin, f"{where} cannot be read: {reason}"))
        return empty, False
    found = len(complaints)
    root = parse(text, start, complaints)
    if root is None:
        if len(complaints) == found:
            complaints.append(
                Complaint(
                    start,
                    "the spec is empty. It needs classes, features, fields and model",
                )
            )
        return empty, False
    if not isinstance(root.value, dict):
        complaints.append(
            Complaint(
                root.place,
                "a spec must be a mapping such as `seed: 7`. "
                f"Received: {root.received}",
            )
        )
        return empty, False
    extends = root.value.pop("extends", None)
    if extends is None:
        return root, True
    node = extends.node
    if not isinstance(node.value, str) or node.is_null:
        complaints.append(
            Complaint(
                node.place,
                f"`extends` must be the path of a spec. Received: {node.received}",
            )
        )
        return root, False
    other = Path(os.path.normpath(path.parent / Path(node.value).expanduser()))
    base, complete = _load(other, node.place, complaints, kind, [*chain, resolved])
    return merge(base, root, kind), complete


def _first_place(path: Path, file: int) -> Position:
    return Position(file, 1, 1, str(path), path.parent.absolute())


def merge(base: Node, top: Node, kind: Kind | None) -> Node:
    """Lay a node over another: mappings key by key, all else is replaced."""
    if not isinstance(top.value, dict):
        return top
    base = expand_short_form(base, kind)
    if not isinstance(base.value, dict):
        return top
    entries = dict(base.value)
    for key, entry in top.value.items():
        node = entry.node
        if key in entries:
            node = merge(entries[key].node, node, kind and kind.child(key))
        entries[key] = Entry(entry.key, node)
    return Node(entries, top.place)


def expand_short_form(node: Node, kind: Kind | None) -> Node:
    """`height` as `{name: height}`, and nothing (`training:`) as `{}`."""
    is_mapping = kind is not None and (kind.section or kind.base is dict)
    if not is_mapping or isinstance(node.value, dict):
        return node
    if node.is_null and not kind.nullable:
        return replace(node, value={})
    key = kind.section.short_form if kind.section else None
    return replace(node, value={key: Entry(node.place, node)}) if key else node


def apply_overrides(
    root: Node, overrides: Sequence[str], complaints: list[Complaint], kind: Kind
) -> Node:
    """Lay `a.b=c` or `a.0.b=c` over a spec; the last one wins.

    The value is YAML: `[a, b]` is a list. Paths in it are relative to the
    current directory.
    """
    for number, override in enumerate(overrides):
        path, equals, text = override.partition("=")
        path = path.strip()
        name = f"--set {path}"
        place = Position(_OVERRIDES + number, 0, 0, name, Path.cwd())
        if not equals or not all(path.split(".")):
            message = (
                f"must be KEY=VALUE, such as training.epochs=5. Received: {override}"
            )
            complaints.append(Complaint(place, message))
            continue
        found = len(complaints)
        value = parse(text, place, complaints)
        if len(complaints) > found:
            continue
        value = value or Node("", place)
        root = _set(root, path.split("."), (), value, complaints, kind)
    return root


def _set(node, rest, done, value, complaints, kind) -> Node:
    if not rest:
        return value
    head, *tail = rest
    node = expand_short_form(node, kind)
    child = kind and kind.child(head)
    path = ".".join(done) or "the spec"
    if isinstance(node.value, list):
        if not (head.isdecimal() and int(head) < len(node.value)):
            message = (
                f"`{path}` has {len(node.value)} entries, counted from 0. "
                f"Received: {head}"
            )
            complaints.append(Complaint(value.place, message))
            return node
        items = list(node.value)
        items[int(head)] = _set(
            items[int(head)], tail, (*done, head), value, complaints, child
        )
        return replace(node, value=items)
    if not isinstance(node.value, dict):
        message = f"`{path}` is {node.received} and has no key `{head}`"
        complaints.append(Complaint(value.place, message))
        return node
    known = node.value.get(head, Entry(value.place, Node({}, value.place)))
    key = value.place if not tail or head not in node.value else known.key
    entry = Entry(key, _set(known.node, tail, (*done, head), value, complaints, child))
    return replace(node, value={**node.value, head: entry})
