"""The structure: who may import whom, how large a module is, what is exported."""

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A package may import itself, `errors` and what stands here, lazily or not.
MAY_IMPORT = {
    "__init__": "pipeline spec clouds model system",
    "__main__": "cli system",
    "errors": "",
    "cli": "guide pipeline report runs spec dataset clouds system",
    "guide": (
        "pipeline report prediction training model dataset kernels runs spec geometry "
        "clouds system"
    ),
    "pipeline": (
        "report evaluation prediction training model dataset kernels runs spec clouds "
        "system"
    ),
    "report": "evaluation prediction kernels runs spec clouds system",
    "evaluation": "prediction model dataset kernels spec clouds system",
    "prediction": "model dataset clouds runs spec system",
    "training": "model dataset runs spec system",
    "model": "spec kernels system",
    "dataset": "geometry clouds spec system",
    "kernels": "system",
    "spec": "clouds system",
    "geometry": "",
    "clouds": "system",
    "runs": "system",
    "system": "",
}
# Narrower than its package: the one module of `clouds` that loads no laspy, and the
# one module of `guide` that trains.
ONLY = {("spec", "clouds"): "clouds.files", ("guide", "pipeline"): "guide.self_test"}

FRAMEWORKS = {"keras", "tensorflow", "jax", "torch"}
# Packages, and the two modules that build networks before a run: `doctor` tries each
# backend in a process of its own, `plan --measure` times a network.
MAY_LOAD_KERAS = {
    *("model", "training", "prediction", "evaluation", "pipeline"),
    *("guide.self_test", "guide.plan.measure"),
}
# Modules of these packages that `check`, `plan` and `compare` import without Keras.
KERAS_FREE = [
    "model.compilation",
    "model.cost",
    "training.memory",
    "training.remedies",
    "training.compilation",
    "prediction.outcomes",
    "prediction.calibration",
    "prediction.class_groups",
    "evaluation.scores",
    "evaluation.coverage",
    "evaluation.evaluation",
    "evaluation.pairs",
    "evaluation.disagreements",
]
LAYER_IMPORTS = {"keras", "numpy", "math", "pathlib", "re", "functools", "numbers"}

MOST_MODULE_LINES = 350
MOST_FUNCTION_LINES = 60


@cache
def python_files(*folders: str) -> list[Path]:
    """Modules and type stubs, which hold the lazy imports of packages."""
    return sorted(
        path
        for folder in folders
        for pattern in ("*.py", "*.pyi")
        for path in (ROOT / folder).rglob(pattern)
    )


@cache
def name_of(path: Path) -> str:
    """The dotted name of a module; a package goes by its own name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inner_name(name: str) -> str:
    """The name inside `vl3d_lite`, whose own is ``__init__``."""
    return name.removeprefix("vl3d_lite").removeprefix(".") or "__init__"


@cache
def imports_in(text: str, package: tuple[str, ...]) -> list[tuple[str, str]]:
    """Each import of a text, wherever it stands, as module and name in it."""
    return list(_imports(ast.parse(text), package))


def _imports(tree: ast.Module, package: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and "import_module" in ast.dump(node.func):
            yield from (
                (argument.value, "")
                for argument in node.args
                if isinstance(argument, ast.Constant)
            )


def imported(path: Path, planted: str = "") -> list[tuple[str, str]]:
    """The imports of a file, to whose end a text is added."""
    package = path.relative_to(ROOT).parent.parts
    return imports_in(path.read_text(), package) + imports_in(planted, package)


@cache
def is_module(dotted: str) -> bool:
    path = ROOT / dotted.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@cache
def face_of(package: str) -> dict[str, str]:
    """The names that a package exports lazily, each with the module that has it."""
    stub = ROOT / package.replace(".", "/") / "__init__.pyi"
    if not stub.is_file():
        return {}
    exported = imports_in(stub.read_text(), stub.relative_to(ROOT).parent.parts)
    return {name: module for module, name in exported}


def own_imports(path: Path, planted: str = "") -> Iterator[str]:
    """The modules of this repository that a file imports, by dotted name."""
    for module, name in imported(path, planted):
        if is_module(f"{module}.{name}"):
            yield f"{module}.{name}"
        elif is_module(module):
            yield face_of(module).get(name, module)


def may_load_keras(name: str) -> bool:
    room = name.split(".")[0]
    return bool({room, name} & MAY_LOAD_KERAS) and name not in KERAS_FREE


def forbidden_imports(path: Path, planted: str = "") -> list[str]:
    """Imports that MAY_IMPORT, ONLY and the rules of Keras do not allow."""
    name = inner_name(name_of(path))
    room = name.split(".")[0]
    allowed = {room, "errors", *MAY_IMPORT[room].split()}
    found = []
    for target in own_imports(path, planted):
        inner = inner_name(target)
        other = inner.split(".")[0]
        narrow = ONLY.get((room, other))
        if other not in allowed or (narrow and narrow not in (name, inner)):
            found.append(f"{name} -> {inner}")
    if not may_load_keras(name):
        used = {module.split(".")[0] for module, _ in imported(path, planted)}
        found += [f"{name} -> {framework}" for framework in sorted(used & FRAMEWORKS)]
    return found


def circle(*folders: str, planted: dict[str, str] | None = None) -> list[str]:
    """Files that import each other, directly or by way of others; none if empty.

    Args:
        folders: Where files are searched.
        planted: Text that is added to a module, by its dotted name.
    """
    graph: dict[str, set[str]] = {}
    for path in python_files(*folders):
        name = name_of(path)
        targets = set(own_imports(path, (planted or {}).get(name, "")))
        graph.setdefault(name, set()).update(targets - {name})
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


PACKAGE = python_files("vl3d_lite")


def test_the_package_holds_fifteen_packages_and_three_modules():
    entries = {
        path.stem
        for path in (ROOT / "vl3d_lite").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert entries == set(MAY_IMPORT)
    assert len(entries) == 15 + 3


def test_every_import_is_allowed():
    found = {name_of(path): forbidden_imports(path) for path in PACKAGE}
    assert len(found) > 200
    assert {name: imports for name, imports in found.items() if imports} == {}


def own_package(module: str) -> str:
    return ".".join(module.split(".")[:2])


FACES = {"vl3d_lite.model.layers", *(f"vl3d_lite.{name}" for name in MAY_IMPORT)}


def test_other_packages_are_imported_by_what_they_export():
    for path in PACKAGE:
        if path.parent.name == "vl3d_lite":
            continue
        here = name_of(path)
        for module, name in imported(path):
            if not module.startswith("vl3d_lite"):
                continue
            if own_package(module) == own_package(here):
                named = is_module(f"{module}.{name}") or module != own_package(module)
                assert named, f"{here}: name the module of {name}"
            else:
                assert module in FACES, f"{here}: {module} is inside another package"


def test_packages_have_a_sentence_and_a_face():
    for package in sorted(set(MAY_IMPORT) - {"__init__", "__main__", "errors"}):
        path = ROOT / "vl3d_lite" / package / "__init__.py"
        docstring = ast.get_docstring(ast.parse(path.read_text()))
        assert docstring.splitlines()[0].endswith(".")
        assert docstring.count("\n") == 0 or "\n\nExample:" in docstring
        module = importlib.import_module(f"vl3d_lite.{package}")
        assert module.__all__
        assert set(module.__all__) <= set(dir(module))
        submodules = {found.stem for found in path.parent.iterdir()}
        lazy = set(face_of(f"vl3d_lite.{package}"))
        own = {name for name in lazy if is_module(f"vl3d_lite.{package}.{name}")}
        assert lazy & submodules == own, "a lazy name would give the module"


@pytest.mark.parametrize(
    "folders",
    [("vl3d_lite",), ("benchmarks", "tests", "data", "docs", "models")],
    ids="-".join,
)
def test_no_files_import_each_other(folders):
    assert circle(*folders) == []


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("geometry/height.py", "from vl3d_lite.model import layers"),
        ("geometry/height.py", "from vl3d_lite.model.layers import KPConvXLayer"),
        ("clouds/header.py", "from vl3d_lite.dataset.features import columns"),
        ("dataset/centers.py", "import keras"),
        ("dataset/centers.py", "def later():\n    import jax.numpy"),
        ("report/page.py", "def later():\n    from vl3d_lite.cli import app"),
        ("report/page.py", "if TYPE_CHECKING:\n    from vl3d_lite.cli import app"),
        ("report/page.py", "importlib.import_module('vl3d_lite.cli.app')"),
        ("spec/reader.py", "from vl3d_lite.clouds.reading import read_las"),
        ("guide/doctor.py", "from vl3d_lite import pipeline"),
        ("training/memory.py", "import tensorflow as tf"),
        ("system/version.py", "import vl3d_lite"),
    ],
)
def test_a_planted_import_is_found(module, statement):
    path = ROOT / "vl3d_lite" / module
    assert forbidden_imports(path) == []
    assert forbidden_imports(path, planted=statement)


def test_a_planted_circle_is_found():
    statement = "def later():\n    from vl3d_lite.dataset.sweep import Sweep"
    planted = {"vl3d_lite.dataset.extractor": statement}
    found = circle("vl3d_lite", planted=planted)
    assert {"vl3d_lite.dataset.extractor", "vl3d_lite.dataset.sweep"} <= set(found)


def test_quick_modules_load_no_framework():
    quick = [
        name_of(path)
        for path in PACKAGE
        for inner in [inner_name(name_of(path))]
        if not may_load_keras(inner) and inner != "__main__"
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {quick}:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = {FRAMEWORKS | {'open3d'}} & set(sys.modules)\n"
        "    assert not loaded, (name, loaded)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_layers_import_tensors_and_their_own_only():
    for path in python_files("vl3d_lite/model/layers"):
        for module, _ in imported(path):
            own = module.startswith(("vl3d_lite.model.layers", "vl3d_lite.kernels"))
            outside = module.split(".")[0] in LAYER_IMPORTS
            allowed = own or outside or module == "vl3d_lite.errors"
            assert allowed, f"{name_of(path)}: {module}"


def is_seed_signature(node: ast.FunctionDef) -> bool:
    """Whether a function's length is its signature, which the seeds prescribe."""
    arguments = [*node.args.args, *node.args.kwonlyargs]
    return node.name == "__init__" and len(arguments) > 12


def test_modules_and_functions_are_short():
    for path in PACKAGE:
        text, here = path.read_text(), name_of(path)
        assert len(text.splitlines()) <= MOST_MODULE_LINES, here
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and not is_seed_signature(node):
                lines = node.end_lineno - node.lineno + 1
                assert lines <= MOST_FUNCTION_LINES, (
                    f"{here}.{node.name}: {lines} lines"
                )
