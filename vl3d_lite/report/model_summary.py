"""Descriptions of ``.keras`` files.

The file is a zip archive of JSON and HDF5, so reading it requires neither Keras nor
the classes of the model, and takes less than a second.
"""

import zipfile
from pathlib import Path
from typing import Any

from vl3d_lite.errors import DataError, VL3DError
from vl3d_lite.report.text import fact_lines, sections, table
from vl3d_lite.system import read_archived_json

__all__ = ["describe_model"]


def describe_model(path: Path) -> str:
    """Describe a ``.keras`` file: its layers, their types and parameters.

    Raises:
        DataError: The file is not such an archive, or a part of it is missing.
    """
    import h5py

    try:
        with zipfile.ZipFile(path) as archive:
            config = read_archived_json(archive, "config.json")
            metadata = read_archived_json(archive, "metadata.json")
            with archive.open("model.weights.h5") as stream, h5py.File(stream) as store:
                counts = _layer_parameters(store)
                total = sum(
                    _parameters(store[group])
                    for group in store
                    if group not in ("optimizer", "metrics")
                )
        layers = config["config"].get("layers", [])
        rows = [["layer", "type", "parameters", "kernel"]]
        for layer in layers:
            name = layer["config"].get("name", layer.get("name", ""))
            count = counts.get(name)
            rows.append(
                [
                    name,
                    layer["class_name"],
                    "" if count is None else f"{count:,}",
                    _kernel_of(layer["config"]),
                ]
            )
        facts = {
            "type": config["class_name"],
            "layers": len(layers),
            "parameters": f"{total:,}",
            "keras": metadata.get("keras_version"),
            "saved": metadata.get("date_saved"),
            "size": f"{path.stat().st_size / 1e6:.1f} MB",
        }
        return sections(f"Model {path}", fact_lines(facts), table(rows))
    except (MemoryError, VL3DError):
        raise
    # Damage shows as BadZipFile, zlib.error, KeyError, AttributeError, ...
    except Exception as error:
        raise DataError(
            f"{path}: is not a readable Keras model ({error}); "
            "restore it from a copy or train again"
        ) from error


def _layer_parameters(store: Any) -> dict[str, int]:
    counts = {}
    for group in store.get("layers", {}).values():
        name = group["vars"].attrs.get("name") if "vars" in group else None
        counts[str(name or group.name.rsplit("/", 1)[-1])] = _parameters(group)
    return counts


def _parameters(group: Any) -> int:
    sizes: list[int] = []
    group.visititems(lambda _, item: sizes.append(getattr(item, "size", 0)))
    return sum(sizes)


def _kernel_of(config: dict[str, Any]) -> str:
    if "shell_points" not in config:
        return ""
    return f"{sum(config['shell_points'])} points, influence {config['sigma']:.4g} m"
