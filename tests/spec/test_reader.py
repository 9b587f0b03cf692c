import subprocess
import sys
from pathlib import Path

import pytest

from tests.spec.spec_texts import GOOD, errors_of, read
from vl3d_lite.errors import SpecError
from vl3d_lite.spec.reader import dump_spec, read_spec
from vl3d_lite.spec.schema.spec import Spec


@pytest.mark.parametrize("name", ["none.yaml", "."])
def test_names_a_file_that_cannot_be_read(folder, name):
    with pytest.raises(SpecError, match="the spec cannot be read"):
        read_spec(name)


def test_a_command_can_require_clouds(folder):
    assert read(GOOD, needs=["train"]).clouds["train"] == [folder / "town.laz"]
    (line,) = errors_of(GOOD, needs=["train", "predict"])
    assert line.startswith("a.yaml:7:1: `clouds.predict` must name at least one")


def test_files_are_looked_for_only_on_request(folder):
    loaded = read(GOOD.replace("town.laz", "city.laz"), check_files=False)
    assert loaded.clouds == {"train": [], "validation": [], "predict": []}
    assert loaded.spec.clouds.train == [str(folder / "city.laz")]


def test_globs_and_folders_are_expanded_once_and_sorted(folder):
    loaded = read(GOOD.replace("town.laz", "'*.la?', ., village.las"))
    assert loaded.clouds["train"] == [folder / "town.laz", folder / "village.las"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.gradient_clipping=null", "training.learning_rate=1e-7"],
        ["fields.sampling=farthest", "training.class_weights={building: 3}"],
        ["classes.no=[8, 9]", "classes.no.output_code=9", "seed=4294967295"],
        ["fields={shape: box, size: [3, 4], grid_size: 1}", "features=['~', 'on']"],
    ],
)
def test_reads_back_what_it_dumps(folder, overrides):
    first = read(GOOD, *overrides)
    second = read(dump_spec(first.spec))
    assert second.spec == first.spec
    assert second.clouds == first.clouds


def test_dumps_paths_relative_to_a_folder(folder):
    spec = read(GOOD).spec
    text = dump_spec(spec, relative_to=folder / "runs" / "one")
    assert "../../town.laz" in text
    assert str(folder) not in text
    target = folder / "runs" / "one"
    target.mkdir(parents=True)
    (target / "spec.yaml").write_text(text)
    assert read_spec(target / "spec.yaml").spec == spec


def test_reading_changes_no_default(folder):
    before = Spec.model_json_schema()
    read(GOOD.replace("[town.laz]", "[town.laz, village.las]"))
    assert read(GOOD.replace("  train: [town.laz]", "")).spec.clouds.train == []
    assert Spec.model_json_schema() == before


@pytest.mark.slow
def test_never_imports_a_framework(folder):
    Path("a.yaml").write_text(GOOD)
    code = (
        "import sys; from vl3d_lite.spec.reader import read_spec; read_spec('a.yaml');"
        "import vl3d_lite.dataset.features;"
        "print([m for m in ('keras', 'tensorflow', 'jax') if m in sys.modules])"
    )
    root = str(Path(__file__).parents[2])
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": root, "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "[]"


def test_every_shipped_spec_is_valid():
    configs = sorted((Path(__file__).parents[2] / "configs").glob("**/*.yaml"))
    for config in configs:
        read_spec(config, check_files=False)


def test_the_run_of_the_initial_weights_is_relative_to_the_spec(folder):
    Path("runs/first").mkdir(parents=True)
    text = GOOD.replace("learning_rate: 1e-3", "initial_weights: runs/first")
    assert "initial_weights" in text
    spec = read(text).spec
    assert spec.training.initial_weights == str(Path("runs/first").absolute())
    gone = text.replace("runs/first", "runs/second")
    with pytest.raises(
        SpecError, match=r"initial_weights` must be a run folder.*runs/sec"
    ):
        read(gone)
    assert read(gone, check_files=False).spec.training.initial_weights.endswith(
        "second"
    )


def test_a_cloud_that_two_patterns_name_through_a_link_counts_once(folder):
    (folder / "link.laz").symlink_to(folder / "town.laz")
    text = GOOD.replace("train: [town.laz]", "train: [link.laz, town.laz]")
    assert read(text).clouds["train"] == [folder / "link.laz"]
