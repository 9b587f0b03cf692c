"""`import vl3d_lite`: names, examples, arrays, the page and the notebook."""

import doctest
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import laspy
import nbclient
import nbformat
import numpy as np
import pytest

import vl3d_lite
from vl3d_lite.errors import DataError, SpecError

ROOT = Path(__file__).parents[1]
NAMES = [
    "__version__",
    "errors",
    "evaluate",
    "export_kernels",
    "load_run",
    "model",
    "predict",
    "read_las",
    "read_spec",
    "train",
    "write_las",
]
FUNCTIONS = [name for name in NAMES if name not in ("__version__", "errors", "model")]
EXAMPLES = [
    *(
        pytest.param(n, marks=pytest.mark.slow if n == "train" else ())
        for n in FUNCTIONS
    ),
    "LoadedRun.classify",
    "errors",
    "model",
    "model.layers",
]
WRITE = "prediction.write=[prediction, confidence, probabilities]"


@pytest.fixture
def desk(place, tmp_path, monkeypatch):
    """The current folder: a spec, its clouds and a scan."""
    for path in place.glob("*.laz"):
        shutil.copy(path, tmp_path)
    shutil.copy(place / "test.laz", tmp_path / "scan.laz")
    text = (place / "spec.yaml").read_text().replace("grid_size: 0.5", "grid_size: 1")
    first_stage = re.search(r"^    - {points: 512.*\n", text, re.MULTILINE)[0]
    (tmp_path / "town.yaml").write_text(text.replace(first_stage, ""))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def desk_with_run(desk, trained):
    """The desk, with a trained run in `runs/town`."""
    shutil.copytree(trained.root, desk / "runs/town")
    return desk


@pytest.fixture(scope="module")
def run(trained):
    return vl3d_lite.load_run(trained.root)


@pytest.fixture(scope="module")
def cloud(run, place):
    return vl3d_lite.read_las(place / "test.laz", dimensions=run.dimensions)


@pytest.fixture(scope="module")
def classified(run, cloud):
    """Classes and probabilities of the cloud that the run has predicted."""
    return run.classify(cloud.xyz, cloud.attributes)


def world_coordinates(path):
    las = laspy.read(path)
    return np.stack([las.x, las.y, las.z], axis=1), las


def examples():
    """Names of the face with the objects whose docstrings hold an example."""
    for name in FUNCTIONS:
        yield name, getattr(vl3d_lite, name)
    yield (
        "LoadedRun.classify",
        inspect.signature(vl3d_lite.load_run).return_annotation.classify,
    )
    yield "errors", vl3d_lite.errors
    yield "model", vl3d_lite.model
    yield "model.layers", vl3d_lite.model.layers


def test_the_names_are_complete():
    assert vl3d_lite.__all__ == NAMES
    assert dir(vl3d_lite) == NAMES
    assert all(hasattr(vl3d_lite, name) for name in NAMES)


def test_type_checkers_see_the_names():
    stub = (ROOT / "vl3d_lite/__init__.pyi").read_text()
    assert sorted(re.findall(r" as (\w+)$", stub, re.MULTILINE)) == NAMES
    listed = re.search(r"__all__ = \[(.*?)\]", stub, re.DOTALL)[1]
    assert re.findall(r'"(\w+)"', listed) == NAMES
    assert (ROOT / "vl3d_lite/py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="unknown"):
        vl3d_lite.unknown  # noqa: B018


def loaded_modules(code):
    """Modules that a fresh interpreter has loaded after the code."""
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(shown.stdout.split())


def test_the_import_loads_nothing_slow():
    loaded = loaded_modules("import vl3d_lite")
    assert "lazy_loader" in loaded
    assert not {"numpy", "scipy", "yaml", "pydantic", "laspy", "keras"} & loaded


@pytest.mark.slow
def test_files_are_read_and_written_without_keras():
    code = "from vl3d_lite import __version__, errors, read_las, read_spec, write_las"
    loaded = loaded_modules(code)
    assert "vl3d_lite.clouds.reading" in loaded
    assert not {"keras", "tensorflow", "open3d"} & loaded


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_name_runs(desk_with_run, name):
    described = dict(examples())[name]
    test = doctest.DocTestParser().get_doctest(
        inspect.getdoc(described), {}, name, None, 0
    )
    assert test.examples, f"{name} has no example"
    printed = []
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test, out=printed.append)
    assert not runner.failures, "".join(printed)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_docstrings_describe_every_argument(name):
    function = getattr(vl3d_lite, name)
    described = inspect.getdoc(function)
    for argument in inspect.signature(function).parameters:
        assert re.search(rf"^    {argument}: ", described, re.M), argument
    assert "Raises:\n" in described


@pytest.mark.slow
def test_classify_equals_the_prediction_of_a_run(trained, run, classified):
    check_equal(run, classified, trained.root / "predictions/test.laz")


@pytest.mark.slow
def test_classify_equals_predict_on_two_grids(desk_with_run):
    grids = ["prediction.grids=2"]
    run = vl3d_lite.load_run("runs/town", overrides=grids)
    xyz, las = world_coordinates("scan.laz")
    found = run.classify(xyz, {name: las[name] for name in run.dimensions})
    vl3d_lite.predict(
        "runs/town", "scan.laz", "out", overrides=[*grids, WRITE], quiet=True
    )
    check_equal(run, found, "out/scan.laz")


def check_equal(run, classified, path):
    """Compare the result of `classify` to a written cloud."""
    classes, probabilities = classified
    written = laspy.read(path)
    np.testing.assert_array_equal(run.codes[classes], written.prediction)
    for index, name in enumerate(run.class_names):
        np.testing.assert_array_equal(probabilities[:, index], written[f"p_{name}"])
    np.testing.assert_array_equal(probabilities.max(axis=1), written.confidence)


def test_classify_returns_indices_and_calibrated_probabilities(run, cloud, classified):
    classes, probabilities = classified
    assert (classes.dtype, probabilities.dtype) == (np.int32, np.float32)
    assert probabilities.shape == (len(cloud), len(run.class_names))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(classes, probabilities.argmax(axis=1))


@pytest.mark.slow
def test_local_and_world_coordinates_give_the_same(run, cloud, classified):
    local = run.classify(cloud.local, cloud.attributes)
    for one, other in zip(local, classified, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_coordinates_of_no_las_file_are_classified(run):
    rng = np.random.default_rng(0)
    xyz = rng.normal(0, 5, (500, 3)) * (1, 1, 0.01)
    numbers = np.ones(500, np.uint8)
    attributes = dict.fromkeys(run.dimensions, numbers) | {"withheld": 0 * numbers}
    classes, probabilities = run.classify(xyz, attributes)
    assert len(classes) == 500
    assert np.isfinite(probabilities).all()


def test_a_run_shows_what_it_needs(run):
    assert run.class_names == ("ground", "vegetation", "building")
    assert run.codes.tolist() == [2, 5, 6]
    needed = {"return_number", "number_of_returns", "intensity"}
    assert set(run.dimensions) == needed | {"classification", "withheld"}
    assert run.spec.class_names == list(run.class_names)
    assert run.model.output_shape[-1] == 3
    assert "Keras" not in repr(run)


@pytest.mark.slow
def test_noise_is_kept_from_the_network_where_its_codes_are_given(
    run, cloud, classified
):
    below = cloud.xyz[:20] - [0, 0, 15]
    attributes = {n: np.append(a, a[:20]) for n, a in cloud.attributes.items()}
    attributes["classification"][-20:] = 7
    found = run.classify(np.vstack([cloud.xyz, below]), attributes)
    for values, expect in zip(found, classified, strict=True):
        np.testing.assert_array_equal(values[:-20], expect)
    del attributes["classification"], attributes["withheld"]
    unknown = run.classify(np.vstack([cloud.xyz, below]), attributes)
    assert not np.array_equal(unknown[1][:-20], classified[1])


@pytest.mark.slow
def test_missing_values_are_classified_where_they_are_declared(run, cloud):
    attributes = dict(cloud.attributes)
    attributes["intensity"] = np.where(np.arange(len(cloud)) % 3, 500.0, np.nan)
    with pytest.raises(DataError, match=r"`intensity`.*finite.*nan at point 0"):
        run.classify(cloud.xyz, attributes)
    _, probabilities = run.classify(cloud.xyz, attributes, missing=["intensity"])
    assert np.isfinite(probabilities).all()


POINTS = np.zeros((4, 3))
ONES = np.ones(4)
FULL = {name: ONES for name in ("return_number", "number_of_returns", "intensity")}


@pytest.mark.parametrize(
    ("xyz", "attributes", "message"),
    [
        (np.zeros((4, 2)), FULL, r"\(n, 3\).* Received: \(4, 2\)"),
        (np.zeros((0, 3)), FULL, r"at least one point. Received: \(0, 3\)"),
        (np.full((4, 3), np.nan), FULL, r"finite \(meters\).*at point 0"),
        (POINTS, {}, "Received: none; add return_number"),
        (POINTS, {**FULL, "intensity": np.ones(3)}, r"intensity.*Received: \(3,\)"),
        (POINTS, {**FULL, "intensity": ONES * np.nan}, "`intensity`.*finite"),
    ],
    ids=["columns", "empty", "nan", "missing", "length", "nan attribute"],
)
def test_classify_refuses(run, xyz, attributes, message):
    with pytest.raises(DataError, match=message):
        run.classify(xyz, attributes)


def test_missing_runs_are_refused(desk):
    for call in (
        vl3d_lite.load_run,
        vl3d_lite.evaluate,
        vl3d_lite.export_kernels,
        lambda folder: vl3d_lite.predict(folder, "scan.laz"),
    ):
        with pytest.raises(DataError, match="runs/none"):
            call("runs/none")


def test_train_refuses_an_existing_run(desk_with_run):
    with pytest.raises(SpecError, match="runs/town"):
        vl3d_lite.train("town.yaml", "runs/town")


def test_train_refuses_a_spec_without_clouds(desk):
    spec = vl3d_lite.read_spec("town.yaml", check_files=False)
    with pytest.raises(SpecError, match=r"`clouds.train` must name"):
        vl3d_lite.train(spec, "runs/new")
    Path("town.yaml").write_text("classes: {a: 1, b: 2}\n")
    with pytest.raises(SpecError, match=r"town\.yaml"):
        vl3d_lite.train("town.yaml", "runs/new")


def test_train_resumes_and_overwrites(desk_with_run):
    finished = Path("runs/town/model.keras").stat().st_mtime_ns
    assert vl3d_lite.train("runs/town/spec.yaml", "runs/town", resume=True) == Path(
        "runs/town"
    )
    assert Path("runs/town/model.keras").stat().st_mtime_ns == finished


@pytest.mark.slow
def test_predict_accepts_several_clouds_and_groups(desk_with_run):
    outcomes = vl3d_lite.predict(
        "runs/town",
        [Path("scan.laz"), "test.laz"],
        class_groups="ground, above:1=*",
        overwrite=True,
        quiet=True,
    )
    assert [outcome.output for outcome in outcomes][-2:] == ["test.laz", "scan.laz"]
    written = laspy.read("runs/town/predictions/scan.laz")
    assert set(np.unique(written.prediction)) <= {1, 2}


@pytest.mark.slow
def test_the_page_runs_from_top_to_bottom(desk):
    page = (ROOT / "docs/python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 7
    namespace = {}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), namespace)
    assert namespace["evaluation"].scores.mean_iou > 0
    np.testing.assert_array_equal(
        laspy.read("classified.laz").classification,
        laspy.read("with_confidence.laz").classification,
    )


def test_the_page_names_everything():
    page = (ROOT / "docs/python.md").read_text()
    for name in FUNCTIONS:
        assert f"`{name}(" in page, name


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    notebook = nbformat.read(ROOT / "docs/tour.ipynb", as_version=4)
    assert all(not c.outputs for c in notebook.cells if c.cell_type == "code")
    for cell in notebook.cells:  # a smaller part of the town
        cell.source = cell.source.replace(":2] < 40", ":2] < 10")
    assert ":2] < 10" in str(notebook.cells)
    for name in ("data", "models"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    (tmp_path / "docs").mkdir()
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path / "docs")}},
    ).execute()
    texts = str(notebook.cells)
    assert "image/png" in texts
    assert "% as labeled" in texts


@pytest.mark.slow
def test_mypy_knows_the_types(tmp_path):
    (tmp_path / "user.py").write_text(
        "import vl3d_lite\n"
        'run = vl3d_lite.load_run(vl3d_lite.train("town.yaml", "runs/town"))\n'
        'cloud = vl3d_lite.read_las("scan.laz", dimensions=run.dimensions)\n'
        "reveal_type(run.classify(cloud.xyz, cloud.attributes)[0].dtype)\n"
        "vl3d_lite.unknown\n"
    )
    config = ("--config-file", ROOT / "pyproject.toml")
    shown = subprocess.run(
        [sys.executable, "-m", "mypy", *config, tmp_path / "user.py"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    own = [line for line in shown.splitlines() if "user.py" in line]
    assert len(own) == 2, shown
    assert 'user.py:4: note: Revealed type is "numpy.dtype[Any]"' in own[0]
    assert 'user.py:5: error: Module has no attribute "unknown"' in own[1]
