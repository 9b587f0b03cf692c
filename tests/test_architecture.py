"""The walls: imports point down, and what must stay quick stays free of Keras."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "vl3d_lite"

# A module may import modules of its own floor and of those below.
FLOORS = {
    0: [
        "errors",
        "resources",
        "open3d_support",
        "hush",
        "geometry.*",
        "clouds.cloud",
        "model.layers.*",
        "spec.schema",
        "spec.base",
    ],
    1: [
        "run_folder",
        "interrupts",
        "census",
        "features",
        "fields",
        "centers",
        "augmentation",
        "prepare",
        "scaling",
        "source_weights",
        "lookahead",
        "prefetch",
        "sweep",
        "receipt",
        "scores",
        "calibration",
        "coverage",
        "folding",
        "places",
        "color_files",
        "cross_section",
        "place_view",
        "palette",
        "plain_text",
        "top_view",
        "spec.*",
        "clouds.*",
    ],
    2: [
        "cost",
        "memory",
        "dataset",
        "inputs",
        "model.combined",
        "model.losses",
        "model.lovasz",
        "model.network",
        "model.symmetric",
        "model.joined_optimizer",
        "model.optimizers",
    ],
    3: [
        "attention_plots",
        "attention_scores",
        "backend",
        "classify",
        "evaluate",
        "export",
        "inspection",
        "model_summary",
        "kernel_files",
        "kernel_page",
        "kernel_plots",
        "kernel_statistics",
        "model.kernels",
        "outputs",
        "plots",
        "predict",
        "report",
        "rotations",
        "run_report",
        "start",
        "train",
    ],
    4: ["combine", "pipeline", "guide.*"],
    5: ["cli", "__main__"],
}
# Besides the package's own names, all that the layers may import.
LAYER_IMPORTS = {"keras", "numpy", "math", "pathlib", "re", "functools", "numbers"}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.endswith("__init__"):
            yield name, path


def floor_of(name):
    for floor, entries in FLOORS.items():
        if name in entries:
            return floor
    for floor, entries in FLOORS.items():
        if any(e.endswith(".*") and name.startswith(e[:-1]) for e in entries):
            return floor
    return None


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "vl3d_lite":
                yield from (f"vl3d_lite.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize(
    ("name", "path"), list(modules()), ids=lambda value: str(value)
)
def test_imports_point_down(name, path):
    own = floor_of(name)
    assert own is not None, f"{name} stands on no floor: add it to FLOORS"
    for target in imports(path):
        if not target.startswith("vl3d_lite."):
            continue
        target = target.removeprefix("vl3d_lite.")
        if name == "model.layers.kpconvx" and target == "export":
            continue  # the seed's exception
        other = floor_of(target)
        if other is not None:
            assert other <= own, f"{name} (floor {own}) imports {target} ({other})"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "model/layers").rglob("*.py")), ids=lambda path: path.stem
)
def test_layers_know_tensors_only(path):
    for target in imports(path):
        allowed = target.startswith("vl3d_lite.model.layers") or target in (
            "vl3d_lite.errors",
            "vl3d_lite.kernels.export",
        )
        assert allowed or target.split(".")[0] in LAYER_IMPORTS, target


@pytest.mark.parametrize(
    "module",
    [
        "clouds.las",
        "geometry.hierarchy",
        "spec.reader",
        "fields",
        "cli",
        "guide.convert",
        "guide.doctor",
        "guide.compare_pages",
    ],
)
def test_keras_is_not_imported(module):
    code = (
        f"import sys, vl3d_lite.{module}; "
        "sys.exit(bool({'keras', 'tensorflow', 'open3d'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
