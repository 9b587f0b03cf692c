"""A YAML file as a spec, or every error in it with its position."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import yaml

from vl3d_lite.errors import SpecError
from vl3d_lite.spec.base import Section
from vl3d_lite.spec.class_lists import require_class_names
from vl3d_lite.spec.cloud_files import absolute, find_cloud_files, require_clouds
from vl3d_lite.spec.dimensions import doubtful_dimensions
from vl3d_lite.spec.keys import key_name
from vl3d_lite.spec.kinds import kind_of
from vl3d_lite.spec.merge import apply_overrides, load
from vl3d_lite.spec.nodes import ErrorLine
from vl3d_lite.spec.reference import json_schema
from vl3d_lite.spec.schema.spec import CLOUD_GROUPS, Spec
from vl3d_lite.spec.sections import SectionReader
from vl3d_lite.system import (
    find_shipped,
    require_usable_path,
    shipped_hint,
)

__all__ = ["CloudGroup", "LoadedSpec", "dump_spec", "json_schema", "read_spec"]

CloudGroup = Literal["train", "validation", "predict"]
_SPEC = kind_of(Spec)


@dataclass(frozen=True)
class LoadedSpec:
    """A spec and the files it was read from.

    Args:
        spec: The spec; the patterns of `clouds` are absolute.
        path: The YAML file.
        base: The folder of the YAML file.
        clouds: ``train``, ``validation`` and ``predict`` to the files found;
            empty lists if `read_spec` did not look for files.
        warnings: Lines ``file:line:column: message`` about names of dimensions that
            are likely to be misspelled. Where the clouds can be read, their headers
            decide instead.
    """

    spec: Spec
    path: Path
    base: Path
    clouds: dict[str, list[Path]]
    warnings: tuple[str, ...] = ()


def read_spec(
    path: str | Path,
    overrides: Sequence[str] = (),
    check_files: bool = True,
    needs: Sequence[CloudGroup] = (),
) -> LoadedSpec:
    """Read a spec and report all errors at once.

    The schema, not the form of a value, decides its type: `1e-3` is a number where
    a number is expected, and `no` is a name where a name is expected.

    Args:
        path: YAML file, or the name of a shipped config. Paths in it are relative to
            the file.
        overrides: ``a.b=c`` or ``a.0.b=c``, with a value in YAML; paths are
            relative to the current directory.
        check_files: Look for the clouds and the run of `training.initial_weights`.
        needs: Lists of `clouds` that must not be empty.

    Raises:
        SpecError: One line ``file:line:column: message`` for each error.
        DataError: No file can have the path.

    Example:
        >>> import vl3d_lite
        >>> loaded = vl3d_lite.read_spec("town.yaml", ["fields.radius=15"])
        >>> loaded.spec.fields.radius, loaded.spec.class_names
        (15.0, ['ground', 'vegetation', 'building'])
        >>> [path.name for path in loaded.clouds["train"]]
        ['train.laz']
    """
    require_usable_path(path)
    path = find_shipped("configs", Path(path))
    errors: list[ErrorLine] = []
    root, complete = load(path, errors, _SPEC)
    root = apply_overrides(root, overrides, errors, _SPEC)
    root = require_class_names(root, errors)
    reader = SectionReader(errors, complete)
    section, clouds = None, {}
    if complete or root.value:
        section = reader.section(root, Spec, ())
        if complete:
            require_clouds(reader, section, needs)
        clouds = find_cloud_files(reader, section, check_files)
        _find_initial_weights(reader, section, check_files)
        _find_cache_folder(reader, section)
    if errors or section is None:
        lines = dict.fromkeys(str(error) for error in sorted(errors))
        raise SpecError("\n".join(lines))
    # The section was built without validation, which sets defaults and freezes it.
    spec = Spec.model_validate(section.model_dump(exclude_unset=True))
    warnings = tuple(
        f"{reader.nearest(location)}: `{key_name(location)}`: {message}"
        for location, message in doubtful_dimensions(spec)
    )
    return LoadedSpec(spec, path, path.parent.absolute(), clouds, warnings)


def dump_spec(spec: Spec, relative_to: Path | None = None) -> str:
    """Write a spec as YAML with all defaults; `read_spec` reads it back.

    The section `cache` is left out: no result depends on it.

    Args:
        spec: A spec from `read_spec`.
        relative_to: The folder that will hold the text; paths of clouds become
            relative to it. None leaves the paths unchanged.
    """
    content = _plain(spec)
    del content["cache"]
    if relative_to is not None:
        for name in CLOUD_GROUPS:
            content["clouds"][name] = [
                _relative(entry, relative_to) for entry in content["clouds"][name]
            ]
    return yaml.safe_dump(
        content,
        sort_keys=False,
        default_flow_style=None,
        allow_unicode=True,
        width=88,
    )


def _relative(entry: Any, folder: Path) -> Any:
    """A pattern, or the patterns of a group of clouds, relative to a folder."""
    if isinstance(entry, str):
        return os.path.relpath(entry, folder)
    return {**entry, "files": [_relative(file, folder) for file in entry["files"]]}


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        # A null is written only where it takes back a default.
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


def _find_cache_folder(reader: SectionReader, section: Section) -> None:
    """Make the path of `cache.folder` absolute in `section`."""
    cache = vars(section).get("cache")
    folder = cast("str | None", vars(cache).get("folder")) if cache else None
    if folder is not None:
        base = reader.positions["cache", "folder"].base
        object.__setattr__(cache, "folder", absolute(base, folder))


def _find_initial_weights(
    reader: SectionReader, section: Section, check_files: bool
) -> None:
    """Make the path of `training.initial_weights` absolute in `section`."""
    training = vars(section).get("training")
    run = (
        cast("str | None", vars(training).get("initial_weights")) if training else None
    )
    if run is None:
        return
    position = reader.positions["training", "initial_weights"]
    # The name of a shipped model, or a path relative to the file that names it.
    shipped = find_shipped("models", Path(run), position.base)
    path = absolute(position.base, str(shipped))
    # `section` is frozen, but not validated yet.
    object.__setattr__(training, "initial_weights", path)
    if check_files and not os.path.isdir(path):
        reader.add_error(
            position,
            f"`training.initial_weights` must be a run folder. Received: {run} "
            f"({shipped_hint('models')})",
        )
