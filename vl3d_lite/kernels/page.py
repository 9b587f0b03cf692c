"""Interactive HTML page of the kernels of a run, for ``inspect RUN --html``."""

import base64
import html
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.errors import DataError
from vl3d_lite.kernels.files import StoredKernel, kernel_folders, read_kernel
from vl3d_lite.system import parse_json, read_bytes

__all__ = ["kernel_page", "read_statistics"]

STATISTICS = "statistics.json"
_TEMPLATE = Path(__file__).parent / "templates" / "kernels.html"
_PER_POINT = ("modulation_mean", "modulation_std", "neighbor_share")


def kernel_page(kernels_dir: Path | str) -> str:
    """Render all kernels of the ``kernels`` folder of a run.

    The page contains its data and scripts, makes no network requests and works
    from a ``file://`` address.

    Args:
        kernels_dir: The folder, with ``INIT_<layer>`` and ``TRAINED_<layer>``
            folders and, where statistics were computed, ``statistics.json``.

    Raises:
        DataError: There is no kernel, or a file is damaged.
    """
    directory = Path(kernels_dir)
    if not directory.is_dir():
        raise DataError(
            f"{directory}: not found; write the kernels with `vl3d-lite export RUN`"
        )
    kernels: dict[str, dict[str, StoredKernel]] = {}
    stages: dict[str, None] = {}
    for (stage, layer), folder in kernel_folders(directory).items():
        kernels.setdefault(layer, {})[stage] = read_kernel(folder)
        stages[stage] = None
    if not kernels:
        raise DataError(
            f"{directory}: contains no kernel folder such as INIT_<layer>; "
            "write the kernels with `vl3d-lite export RUN`"
        )
    layers = [_layer(directory, name, found) for name, found in kernels.items()]
    points = {layer["name"]: layer["mq"] for layer in layers}
    run = directory.absolute().parent.name
    title = f"Kernels of {run}"
    newest = list(next(iter(kernels.values())).values())[-1].manifest
    content = {
        "title": title,
        "facts": _facts(layers, stages, newest),
        "stages": list(stages),
        "layers": layers,
        "statistics": read_statistics(directory, points),
    }
    data = json.dumps(_finite(content), ensure_ascii=True, allow_nan=False)
    page = _TEMPLATE.read_text(encoding="utf-8")
    # "<" is the only character with which text could end its script element.
    data = data.replace("<", "\\u003c")
    return page.replace("{{title}}", html.escape(title)).replace("{{data}}", data)


def read_statistics(directory: Path, points: dict[str, int]) -> dict[str, Any]:
    """Read ``statistics.json`` of a ``kernels`` folder; an empty dict without it.

    Format, with every part optional::

        {"layers": {name: {"modulation_mean": [mq],    mean of the modulation
                           "modulation_std": [mq],     its standard deviation
                           "neighbor_share": [mq],     share of neighbors whose
                                                       nearest point this is, 0-1
                           "neighbor_share_by_class": {class: [mq]}}},
         "attention": {name: {"entropy": [groups]}}}   0-1, of log(neighbors)

    Args:
        directory: The ``kernels`` folder.
        points: StoredKernel points of each layer, ``mq``.

    Raises:
        DataError: The file has another format, or lengths do not match `points`.
    """
    path = Path(directory) / STATISTICS
    if not path.is_file():
        return {}
    data = read_bytes(path, "remove it or compute it again")
    try:
        content = parse_json(data, allow_nan=True)
        lists = [
            (f"layers.{name}.{key}", values, points.get(name))
            for name, entry in content.get("layers", {}).items()
            for key, values in [
                *((key, entry[key]) for key in _PER_POINT if key in entry),
                *entry.get("neighbor_share_by_class", {}).items(),
            ]
        ]
        lists += [
            (f"attention.{name}.entropy", entry["entropy"], None)
            for name, entry in content.get("attention", {}).items()
        ]
        for key, values, length in lists:
            if np.asarray(values, float).shape != (length or len(values),):
                raise DataError(
                    f"{path}: `{key}` must contain {length or 'some'} numbers, one "
                    f"per kernel point. Received: {len(values)}; compute the "
                    "statistics again"
                )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: is not a statistics file ({error}); remove it or compute it again"
        ) from error
    return content


def _layer(
    directory: Path, name: str, stages: dict[str, StoredKernel]
) -> dict[str, Any]:
    first, *others = stages.values()
    for other in others:
        if other.W.shape != first.W.shape:
            raise DataError(
                f"{directory}: stages of layer {name!r} differ in shape, "
                f"{first.W.shape} and {other.W.shape}; export the kernels again"
            )
    manifest = next((k.manifest for k in stages.values() if k.manifest), {})
    blocks, mq, channels = first.W.shape
    return {
        "name": name,
        "mq": mq,
        "nx": first.Q.shape[1],
        "blocks": blocks,
        "channels": channels,
        "sigma": manifest.get("sigma"),
        "min_distance": manifest.get("min_distance"),
        "shell_radii": manifest.get("shell_radii", []),
        "shell_points": manifest.get("shell_points", []),
        "stages": {
            stage: {"Q": kernel.Q.tolist(), "W": _base64(kernel.W)}
            for stage, kernel in stages.items()
        },
    }


def _facts(layers: list, stages: dict, manifest: dict[str, Any]) -> list[str]:
    facts = [f"{len(layers)} layer{'s' * (len(layers) != 1)}", ", ".join(stages)]
    if "spec_hash" in manifest:
        facts.append(f"spec {manifest['spec_hash']}")
    if "versions" in manifest:
        facts.append(f"vl3d_lite {manifest['versions'].get('vl3d_lite', 'unknown')}")
    return facts


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode("ascii")


def _finite(content: Any) -> Any:
    """Replace NaN and infinity, which JSON does not support, by None."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_finite(value) for value in content]
    undefined = isinstance(content, float) and not math.isfinite(content)
    return None if undefined else content
