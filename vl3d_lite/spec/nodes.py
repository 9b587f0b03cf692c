"""YAML text as a tree of nodes with their positions."""

from dataclasses import dataclass
from pathlib import Path

import yaml

from vl3d_lite.system import is_printable

LARGEST_FILE = 100_000  # bytes: a spec has a few thousand, and PyYAML is slow
LARGEST_TREE = 20_000  # nodes after the expansion of aliases
DEEPEST = 40  # levels of nesting: a spec needs seven
_TOO_DEEP = f"a spec must be nested at most {DEEPEST} levels deep"


@dataclass(frozen=True, order=True)
class Position:
    """Position of a key or value in a file or override.

    Args:
        file: Number of the file, in the order of reading.
        line: From 1; 0 for an override of the command line.
        column: From 1.
        name: The file or the override in messages.
        base: Folder that relative paths refer to.
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
        position: Position of the first character.
        plain: Whether a scalar is unquoted, so that `~` and `true` have a meaning.
    """

    value: "str | list[Node] | dict[str, Entry]"
    position: Position
    plain: bool = True

    @property
    def is_null(self) -> bool:
        """Whether the node is a null value."""
        return self.plain and self.value in ("", "~", "null", "Null", "NULL")

    @property
    def received(self) -> str:
        """The node as an error message names it."""
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
    """A value of a mapping and the position of its key."""

    key: Position
    node: Node


@dataclass(frozen=True, order=True)
class ErrorLine:
    """One line of an error message, sorted by position."""

    position: Position
    message: str

    def __str__(self) -> str:
        return f"{self.position}: {self.message}"


def parse(text: str | bytes, start: Position, errors: list[ErrorLine]) -> Node | None:
    """Parse YAML; every scalar stays text.

    Args:
        text: UTF-8.
        start: Position of the first character.
        errors: Receives the errors found.

    Returns:
        The root, or None where the text is invalid or empty.
    """

    def add_error(message: str, line: int = 1, column: int = 1) -> None:
        errors.append(ErrorLine(_at(start, line, column), message))

    if len(text) > LARGEST_FILE:
        add_error(f"a spec must have at most {LARGEST_FILE:,} bytes")
        return None
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            before = error.object[: error.start]
            add_error(
                "a spec must be text in UTF-8. Received: byte "
                f"0x{error.object[error.start]:02x}; is this a YAML file?",
                *_line_column(before.decode("utf-8", "replace")),
            )
            return None
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        add_error(
            f"a spec must be printable text. Received: character {error.character:#x}; "
            "is this a YAML file?",
            *_line_column(text[: error.position]),
        )
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        assert mark is not None, "PyYAML gives a mark with every syntax error"
        add_error(_syntax_error(error, text, mark), mark.line + 1, mark.column + 1)
        return None
    if root is None:
        return None
    return _Builder(start, errors).build(root, "", 0)


def is_text(value: str) -> bool:
    """Whether a text holds printable characters, line breaks and tabs alone."""
    return is_printable(value.replace("\n", " ").replace("\t", " "))


def _at(start: Position, line: int, column: int) -> Position:
    if not start.line:
        return start
    return Position(start.file, line, column, start.name, start.base)


def _line_column(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - before.rfind("\n")


class _Loader(yaml.BaseLoader):
    """Loads scalars as text, and limits the depth before Python's stack does."""

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


def _syntax_error(error: yaml.MarkedYAMLError, text: str, mark: yaml.Mark) -> str:
    if error.problem == _TOO_DEEP:
        return _TOO_DEEP
    lines = text.splitlines() or [""]
    line = lines[min(mark.line, len(lines) - 1)]
    if "'\\t'" in str(error.problem) or "\t" in line[: mark.column + 1]:
        return "a tab cannot indent YAML; use spaces"
    problem = error.problem or "cannot be parsed"
    context = str(error.context)
    for sign, found in {
        "*": "alias" in context or "undefined alias" in problem,
        "&": "anchor" in context,
        "@": "'@' that cannot start" in problem,
        "`": "'`' that cannot start" in problem,
        "%": "'%' that cannot start" in problem,
        "|": "block scalar" in context,
    }.items():
        if found:
            return (
                f"not valid YAML: a text that begins with {sign} must be in quotes, "
                f'such as "{sign}.laz"'
            )
    if "expected <block end>" in problem and line[: mark.column].rstrip()[-1:] in "]}":
        problem += " (a text that begins with [ or { must be in quotes)"
    if "mapping values are not allowed" in problem:
        problem += " (is the indentation right, or does a text with `: ` lack quotes?)"
    context = f" {error.context}:" if error.context else ""
    return f"not valid YAML:{context} {problem}"


class _Builder:
    """Converts PyYAML's nodes to `Node`, with aliases and merge keys expanded."""

    def __init__(self, start: Position, errors: list[ErrorLine]):
        self.start = start
        self.errors = errors
        self.nodes = 0

    def build(self, node: yaml.Node, path: str, depth: int) -> Node | None:
        position = self.position(node)
        self.nodes += 1
        # Each limit is reported once, at the node that reaches it.
        if self.nodes == LARGEST_TREE:
            self.add_error(
                position, f"a spec must have at most {LARGEST_TREE:,} values"
            )
        if depth == DEEPEST:
            self.add_error(position, _TOO_DEEP)
        if self.nodes >= LARGEST_TREE or depth >= DEEPEST:
            return None
        if not node.tag.startswith("tag:yaml.org,2002:") or node.tag[18:] not in (
            "str",
            "seq",
            "map",
        ):
            self.add_error(
                position,
                f"a spec has no YAML tags. Received: {node.tag}; a text that begins "
                "with ! must be in quotes",
            )
        if isinstance(node, yaml.ScalarNode):
            self.require_printable(node)
            return Node(node.value, position, plain=node.style is None)
        if isinstance(node, yaml.SequenceNode):
            items = [
                self.build(item, f"{path}[{number}]", depth + 1)
                for number, item in enumerate(node.value)
            ]
            return Node([item for item in items if item is not None], position)
        return Node(self.mapping(node, path, depth), position)

    def mapping(self, node: yaml.Node, path: str, depth: int) -> dict[str, Entry]:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key, value in node.value:
            position = self.position(key)
            if not isinstance(key, yaml.ScalarNode):
                self.add_error(position, "a key must be a plain name")
                continue
            if key.value == "<<" and key.style is None:
                for name, entry in self.merge(value, path, depth).items():
                    merged.setdefault(name, entry)
                continue
            self.require_printable(key)
            full = f"{path}.{key.value}" if path else key.value
            if key.value in entries:
                first = entries[key.value].key
                self.add_error(
                    position, f"`{full}` is given twice, first in line {first.line}"
                )
                continue
            child = self.build(value, full, depth + 1)
            if child is not None:
                entries[key.value] = Entry(position, child)
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
                    built.position, "`<<` must be followed by a mapping's alias"
                )
                continue
            for name, entry in built.value.items():
                merged.setdefault(name, entry)
        return merged

    def require_printable(self, node: yaml.ScalarNode) -> None:
        """Add an error where a text holds what no file or terminal can show."""
        if not is_text(node.value):
            self.add_error(
                self.position(node),
                "a text must be printable, without control characters and halves of "
                f"characters. Received: {ascii(node.value)[:60]}",
            )

    def position(self, node: yaml.Node) -> Position:
        return _at(self.start, node.start_mark.line + 1, node.start_mark.column + 1)

    def add_error(self, position: Position, message: str) -> None:
        self.errors.append(ErrorLine(position, message))
