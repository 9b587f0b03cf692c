"""A VL3D spec as read, and a record of the values that a conversion uses."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, overload

from vl3d_lite.errors import SpecError
from vl3d_lite.system import parse_json, read_bytes

KINDS = (
    "train",
    "class_transformer",
    "miner",
    "imputer",
    "feature_transformer",
    "clustering",
    "predict",
    "eval",
    "writer",
)
LARGEST_FILE = 10 * 2**20  # bytes; VL3D's own specs have up to 100 kB
LONGEST_TEXT = 500  # characters; YAML takes no key above 1,024
_MISSING = object()

Keys = tuple[str | int, ...]


class Vl3dSource:
    """The values of a VL3D spec; those that no conversion used are left over.

    Args:
        path: The file, for messages.
        content: The JSON object. A spec without ``sequential_pipeline`` is a pipeline
            of one component.

    Attributes:
        used: Keys of the values that were used; values below them count as used.
        chosen: Keys of the component that is converted.

    Raises:
        SpecError: `content` is not a VL3D spec.
    """

    def __init__(self, path: Path, content: Any):
        self.path = path
        self.content = content
        self.used: set[Keys] = set()
        self.chosen: Keys = ()
        if not isinstance(content, dict):
            raise SpecError(
                f"{path}: a VL3D spec is a JSON object. Received: {_kind(content)}"
            )
        pipeline = content.get("sequential_pipeline", _MISSING)
        if pipeline is _MISSING:
            self.components: dict[Keys, dict] = {(): content}
        elif isinstance(pipeline, list) and all(isinstance(c, dict) for c in pipeline):
            self.components = {
                ("sequential_pipeline", number): component
                for number, component in enumerate(pipeline)
            }
        else:
            raise SpecError(
                f"{path}: `sequential_pipeline` must be a list of objects. Received: "
                f"{_kind(pipeline)}"
            )

    @classmethod
    def read(cls, path: Path) -> "Vl3dSource":
        """Read a JSON file.

        Raises:
            DataError: The file cannot be read.
            SpecError: It is not JSON, or not a VL3D spec.
        """
        data = read_bytes(path, "give a VL3D spec, a JSON file", LARGEST_FILE)
        try:
            content = parse_json(data)
        except ValueError as error:
            raise SpecError(f"{path}: is not JSON that VL3D reads ({error})") from error
        longest = max(map(len, _texts(content)), default=0)
        if longest > LONGEST_TEXT:
            raise SpecError(
                f"{path}: a text in it has {longest:,} characters, but a spec can hold "
                f"{LONGEST_TEXT}; shorten it"
            )
        return cls(path, content)

    def of_kind(self, kind: str) -> list["Part"]:
        """The components of a kind, such as ``train``, in their order."""
        return [
            Part(self, base)
            for base, component in self.components.items()
            if component.get(kind) is not None
        ]

    def name(self, keys: Keys) -> str:
        """Keys as a message shows them, such as ``ClassReducer.plot_path``."""
        base = keys[:2] if keys[:1] == ("sequential_pipeline",) else ()
        component = self.components.get(base, {})
        kinds = [*KINDS, *(f"_{kind}" for kind in KINDS)]
        owner = next((str(component[k]) for k in kinds if component.get(k)), "")
        own = keys[len(base) :]
        if not base or base == self.chosen:
            owner = ""
        inside = ".".join(map(str, own)).replace("model_args.", "", 1)
        return f"{owner}.{inside}" if owner else inside

    def leftovers(self) -> Iterator[Keys]:
        """Keys of all values that were not used; a list of scalars is one value."""
        for keys in _leaves(self.content, ()):
            if not any(keys[:n] in self.used for n in range(len(keys) + 1)):
                yield keys


class Part:
    """A part of a VL3D spec that records which values are used.

    Args:
        source: The spec.
        base: Keys of the part.
    """

    def __init__(self, source: Vl3dSource, base: Keys):
        self.source = source
        self.base = base

    def part(self, *keys: str | int) -> "Part":
        """A part below this part, which may be absent."""
        return Part(self.source, (*self.base, *keys))

    def peek(self, *keys: str | int) -> Any:
        """The value at some keys, or None, without counting it as used."""
        value = self.source.content
        for key in (*self.base, *keys):
            inside = key in value if isinstance(value, dict) else _has_index(value, key)
            if not inside:
                return None
            value = value[key]
        return value

    def take(self, *keys: str | int) -> Any:
        """The value at some keys, or None; it counts as used."""
        value = self.peek(*keys)
        if value is not None:
            self.source.used.add((*self.base, *keys))
        return value

    @overload
    def text(self, *keys: str, default: str) -> str: ...
    @overload
    def text(self, *keys: str, default: None = None) -> str | None: ...
    def text(self, *keys: str, default: str | None = None) -> str | None:
        """A string, or `default` if absent."""
        return self._typed(keys, "a string", lambda v: isinstance(v, str), default)

    @overload
    def number(self, *keys: str, default: float) -> float: ...
    @overload
    def number(self, *keys: str, default: None = None) -> float | None: ...
    def number(self, *keys: str, default: float | None = None) -> float | None:
        """A number, or `default` if absent."""
        return self._typed(keys, "a number", _is_number, default)

    @overload
    def integer(self, *keys: str, default: int) -> int: ...
    @overload
    def integer(self, *keys: str, default: None = None) -> int | None: ...
    def integer(self, *keys: str, default: int | None = None) -> int | None:
        """A positive integer, or `default` if absent."""
        return self._typed(
            keys,
            "a positive integer",
            lambda v: isinstance(v, int) and _is_number(v) and v > 0,
            default,
        )

    def integers(self, *keys: str) -> list[int] | None:
        """A list of positive integers, or None if absent."""
        return self._typed(
            keys,
            "a list of positive integers",
            lambda v: (
                _is_list(v, _is_number) and all(isinstance(n, int) and n > 0 for n in v)
            ),
            None,
        )

    def numbers(self, *keys: str) -> list[float] | None:
        """A list of numbers, or None if absent."""
        return self._typed(
            keys, "a list of numbers", lambda v: _is_list(v, _is_number), None
        )

    def texts(self, *keys: str) -> list[str] | None:
        """A list of strings, or None if absent."""
        return self._typed(
            keys,
            "a list of strings",
            lambda v: _is_list(v, lambda item: isinstance(item, str)),
            None,
        )

    def error(self, keys: Keys, expected: str, received: Any) -> SpecError:
        """The error of a value that VL3D would not accept, to be raised."""
        name = self.source.name((*self.base, *keys))
        return SpecError(
            f"{self.source.path}: `{name}` must be {expected}. Received: "
            f"{json.dumps(received)[:60]}"
        )

    def _typed(
        self,
        keys: tuple[str, ...],
        expected: str,
        fits: Callable[[Any], bool],
        default: Any,
    ) -> Any:
        value = self.take(*keys)
        if value is None:
            return default
        if not fits(value):
            raise self.error(keys, expected, value)
        return value


def _leaves(value: Any, keys: Keys) -> Iterator[Keys]:
    """Keys of all scalars and of all lists of scalars."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, (*keys, key))
    elif isinstance(value, list) and any(isinstance(v, dict | list) for v in value):
        for number, inner in enumerate(value):
            yield from _leaves(inner, (*keys, number))
    else:
        yield keys


def _texts(value: Any) -> Iterator[str]:
    """All keys and strings below a value."""
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _has_index(value: Any, key: str | int) -> bool:
    return isinstance(value, list) and isinstance(key, int) and key < len(value)


def _is_number(value: Any) -> bool:
    # A bool is an int in Python, but not a number in JSON.
    finite = isinstance(value, int | float) and abs(value) < float("inf")
    return finite and not isinstance(value, bool)


def _is_list(value: Any, fits: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(fits, value))


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", type(None): "null"}
    return names.get(type(value), "a scalar")
