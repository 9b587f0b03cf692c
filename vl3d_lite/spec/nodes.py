"""YAML text as a tree of nodes that know their place."""

from dataclasses import dataclass
from pathlib import Path

import yaml

LARGEST_FILE = 100_000  # bytes: a spec has a few thousand, and PyYAML is slow
LARGEST_TREE = 20_000  # nodes once aliases are expanded
DEEPEST = 40  # levels: a spec needs seven
_TOO_DEEP = f"a spec must be nested at most {DEEPEST} levels deep"


@dataclass(frozen=True, order=True)
class Position:
    """Where something was written.

    Args:
        file: Number of the file, in the order of reading.
        line: From 1; 0 for an override of the command line.
        column: From 1.
        name: What messages call the file or the override.
        base: Folder that relative paths start from.
    """

    file: int
    line: int
    column: int
    name: str
    base: Path

    def __str__(self) -> str:
        return f"{self.name}:{self.line}:{self.column}" if self.line else self.name


@dataclass(frozen=True)
class Node:
    """A scalar (text), a list of nodes, or a mapping of keys to entries.

    Args:
        value: Text as written, list, or mapping.
        place: Of its first character.
        plain: A scalar without quotes, so that `~` and `true` have a meaning.
    """

    value: "str | list[Node] | dict[str, Entry]"
    place: Position
    plain: bool = True

    @property
    def is_null(self) -> bool:
        """Whether the node says that there is no value."""
        return self.plain and self.value in ("", "~", "null", "Null", "NULL")

    @property
    def received(self) -> str:
        """The node in an error message."""
        if isinstance(self.value, list):
            return "a list"
        if isinstance(self.value, dict):
            return "a mapping"
        if self.is_null:
            return "nothing"
        text = self.value if len(self.value) < 60 else self.value[:57] + "..."
        return text if self.plain else f'"{text}" in quotes'


@dataclass(frozen=True)
class Entry:
    """A value of a mapping and the place of its key."""

    key: Position
    node: Node


@dataclass(frozen=True, order=True)
class Complaint:
    """One thing that is wrong, sorted by its place."""

    place: Position
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


def parse(
    text: str | bytes, start: Position, complaints: list[Complaint]
) -> Node | None:
    """Parse YAML without giving scalars a type.

    Args:
        text: UTF-8.
        start: The place of its first character.
        complaints: What is wrong is appended here.

    Returns:
        The root, or None where the text is no YAML or says nothing.
    """

    def add_error(message: str, line: int = 1, column: int = 1) -> None:
        complaints.append(Complaint(_at(start, line, column), message))

    if len(text) > LARGEST_FILE:
        return add_error(f"a spec must have at most {LARGEST_FILE:,} bytes")
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            return add_error(
                "a spec must be text in UTF-8. Received: byte "
                f"0x{text[error.start]:02x}; is this a YAML file?",
                *_line_column(text[: error.start].decode("utf-8", "replace")),
            )
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        return add_error(
            f"a spec must be printable text. Received: character {error.character:#x}; "
            "is this a YAML file?",
            *_line_column(text[: error.position]),
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        return add_error(_syntax(error, text, mark), mark.line + 1, mark.column + 1)
    if root is None:
        return None
    return _Builder(start, complaints).build(root, "", 0)


def _at(start: Position, line: int, column: int) -> Position:
    if not start.line:
        return start
    return Position(start.file, line, column, start.name, start.base)


def _line_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


class _Loader(yaml.BaseLoader):
    """Gives scalars no type, and stops before Python's stack does."""

    depth = 0

    def compose_node(self, parent, index):
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.MarkedYAMLError(
                problem=_TOO_DEEP, problem_mark=self.peek_event().start_mark
            )
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _syntax(error: yaml.MarkedYAMLError, text: str, mark: yaml.Mark) -> str:
    if error.problem == _TOO_DEEP:
        return _TOO_DEEP
    lines = text.splitlines() or [""]
    line = lines[min(mark.line, len(lines) - 1)]
    if "'\\t'" in str(error.problem) or "\t" in line[: mark.column + 1]:
        return "a tab cannot indent YAML; use spaces"
    problem = error.problem or "cannot be parsed"
    if "mapping values are not allowed" in problem:
        problem += " (is the indentation right, or does a text with `: ` lack quotes?)"
    context = f" {error.context}:" if error.context else ""
    return f"not valid YAML:{context} {problem}"


class _Builder:
    """Turns PyYAML's nodes into ours, with aliases and merge keys expanded."""

    def __init__(self, start: Position, complaints: list[Complaint]):
        self.start = start
        self.complaints = complaints
        self.nodes = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Node | None:
        place = self.place(node)
        self.nodes += 1
        if self.nodes == LARGEST_TREE:
            self.add_error(place, f"a spec must have at most {LARGEST_TREE:,} values")
        if depth == DEEPEST:
            self.add_error(place, _TOO_DEEP)
        if self.nodes >= LARGEST_TREE or depth >= DEEPEST:
            return None
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag[18:] not in (
            "str",
            "seq",
            "map",
        ):
            self.add_error(place, f"a spec has no YAML tags. Received: {node.tag}")
        if isinstance(node, yaml.ScalarNode):
            return Node(node.value, place, plain=node.style is None)
        if isinstance(node, yaml.SequenceNode):
            items = [
                self.build(item, f"{path}[{number}]", depth + 1)
                for number, item in enumerate(node.value)
            ]
            return Node([item for item in items if item is not None], place)
        return Node(self.mapping(node, path, depth), place)

    def mapping(self, node: yaml.Node, path: str, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in node.value:
            place = self.place(key)
            if not isinstance(key, yaml.ScalarNode):
                self.add_error(place, "a key must be a plain name")
                continue
            if key.value == "<<" and key.style is None:
                for name, entry in self.merge(value, path, depth).items():
                    merged.setdefault(name, entry)
                continue
            full = f"{path}.{key.value}" if path else key.value
            if key.value in entries:
                first = entries[key.value].key
                self.add_error(
                    place, f"`{full}` is given twice, first in line {first.line}"
                )
                continue
            child = self.build(value, full, depth + 1)
            if child is not None:
                entries[key.value] = Entry(place, child)
        return {**merged, **entries}

    def merge(self, value: yaml.Node, path: str, depth: int) -> dict[str, Entry]:
        sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
        merged: dict[str, Entry] = {}
        for source in sources:
            built = self.build(source, path, depth + 1)
            if built is None:
                continue
            if not isinstance(built.value, dict):
                self.add_error(
                    built.place, "`<<` must be followed by a mapping's alias"
                )
                continue
            for name, entry in built.value.items():
                merged.setdefault(name, entry)
        return merged

    def place(self, node: yaml.Node) -> Position:
        return _at(self.start, node.start_mark.line + 1, node.start_mark.column + 1)

    def add_error(self, place: Position, message: str) -> None:
        self.complaints.append(Complaint(place, message))
