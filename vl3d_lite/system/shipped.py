"""Models and configs that come with the program, found by their names."""

import logging
from pathlib import Path
from typing import Literal

logger = logging.getLogger(__name__)

Kind = Literal["models", "configs"]
PACKAGE = Path(__file__).resolve().parents[1]
_NOUNS = {"models": "model", "configs": "config"}


def shipped_folder(kind: Kind) -> Path:
    """The folder of the shipped models or configs.

    A wheel holds it inside the package; in a clone it is beside the package.
    """
    inside = PACKAGE / "shipped" / kind
    in_clone = (PACKAGE.parent / "pyproject.toml").is_file()
    return PACKAGE.parent / kind if in_clone and not inside.is_dir() else inside


def shipped_paths(kind: Kind) -> dict[str, Path]:
    """The shipped models, which are run folders, or configs by name."""
    folder = shipped_folder(kind)
    if kind == "models":
        return {path.parent.name: path.parent for path in _sorted(folder, "*/run.json")}
    return {path.stem: path for path in _sorted(folder, "*.yaml")}


def find_shipped(kind: Kind, given: Path, base: Path | None = None) -> Path:
    """The path that a user named, or the shipped model or config of that name.

    A path takes precedence: a name is looked up among the shipped ones only if nothing
    with this name is found. If both exist, a warning is logged.

    Args:
        kind: What is looked for.
        given: A path, or a name without a folder and a suffix.
        base: The folder to which relative paths refer; by default the current one.

    Returns:
        `given` where it is no name of a shipped one.
    """
    path = given if base is None else base / given
    if len(given.parts) != 1 or given.name not in (shipped := shipped_paths(kind)):
        return given
    if not path.exists():
        return shipped[given.name]
    if path.resolve() != shipped[given.name].resolve():
        logger.warning(
            "%s: found in %s and used instead of the shipped %s of the same name; "
            "rename it to use the shipped one",
            given,
            path.absolute().parent,
            _NOUNS[kind],
        )
    return given


def shipped_hint(kind: Kind) -> str:
    """The end of a message about a path that is not found: the shipped names."""
    names = ", ".join(shipped_paths(kind))
    return f"shipped {kind}: {names}" if names else f"no {kind} are shipped"


def _sorted(folder: Path, pattern: str) -> list[Path]:
    return sorted(folder.glob(pattern))
