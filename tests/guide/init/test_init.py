"""From clouds to a spec, as a user meets it."""

import subprocess
import sys

import laspy
import numpy as np
import pytest
from scipy.spatial import cKDTree

from tests.conftest import write_place
from vl3d_lite.dataset.files import check_clouds, read_cloud
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.guide import labeled
from vl3d_lite.guide.init import spec_text
from vl3d_lite.guide.init.init import propose_spec
from vl3d_lite.spec.labels import cloud_labels
from vl3d_lite.spec.reader import read_spec


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate("ab"):
        write_place(tmp_path / f"{name}.laz", number, 9000, shift=(100 * number, 0, 0))
    return tmp_path


def forget(path):
    las = laspy.read(path)
    las.classification[:] = 0
    las.write(path)


def test_two_clouds_give_a_spec_that_passes_check(folder, caplog, monkeypatch):
    read = labeled.read_labeled_warnings
    monkeypatch.setattr(
        labeled,
        "read_labeled_warnings",
        lambda *own, **k: [*read(*own, **k), "few points"],
    )
    text = propose_spec([folder / "a.laz", folder / "b.laz"], folder / "spec.yaml")
    assert "warning: few points" in caplog.text
    assert (folder / "spec.yaml").read_text() == text
    assert len(text.splitlines()) <= 60
    assert all(len(line) < 160 for line in text.splitlines())
    loaded = read_spec(folder / "spec.yaml", needs=("train", "validation", "predict"))
    assert loaded.spec.class_codes == {
        "ground": [2],
        "vegetation": [5],
        "building": [6],
    }
    for group, paths in loaded.clouds.items():
        check_clouds(paths, loaded.spec, count_classes=group == "train")
    assert {p.name for p in loaded.clouds["train"]} | {
        p.name for p in loaded.clouds["validation"]
    } == {"a.laz", "b.laz"}
    names = [feature.name for feature in loaded.spec.features]
    assert names == [
        "height",
        "return_ratio",
        "number_of_returns",
        "relative_intensity",
    ]


@pytest.mark.slow
def test_training_clouds_are_augmented_if_the_copies_fit(folder, monkeypatch):
    paths = [folder / "a.laz", folder / "b.laz"]
    propose_spec(paths, folder / "spec.yaml")
    spec = read_spec(folder / "spec.yaml").spec
    varied = spec.training.augmentation
    assert (varied.grids, varied.thinning, varied.slope) == (6, 0.5, 0.5)
    assert spec.features[0].name == "height"
    monkeypatch.setattr(spec_text, "MAX_GRID_CELLS", 1)
    propose_spec(paths, folder / "large.yaml")
    large = read_spec(folder / "large.yaml").spec
    plain = large.training.augmentation
    assert (plain.grids, plain.thinning, plain.slope) == (1, 0, 0)
    # Nothing tilted teaches it slopes.
    assert large.features[0].name == "height_above_ground"


@pytest.mark.slow
def test_a_single_cloud_is_split_and_not_changed(folder):
    source = folder / "a.laz"
    before = source.read_bytes()
    propose_spec([source], folder / "town.yaml")
    assert source.read_bytes() == before
    loaded = read_spec(folder / "town.yaml")
    (train,), (held_out,) = loaded.clouds["train"], loaded.clouds["validation"]
    assert train.parent.name == held_out.parent.name == "town_blocks"
    one, other = laspy.read(train), laspy.read(held_out)
    assert 0.7 < (len(one) + len(other)) / 9000 < 1
    gaps = np.maximum(
        other.xyz.min(0) - one.xyz.max(0), one.xyz.min(0) - other.xyz.max(0)
    )
    assert gaps[:2].max() > 0.5


@pytest.mark.slow
def test_blocks_are_written_to_the_given_folder(folder):
    propose_spec([folder / "a.laz"], folder / "s.yaml", split_into=folder / "parts")
    assert sorted(p.name for p in (folder / "parts").iterdir()) == [
        "a_train.laz",
        "a_validation.laz",
    ]


@pytest.mark.slow
def test_clouds_without_labels_become_clouds_to_predict(folder):
    write_place(folder / "c.laz", 3, 2000)
    forget(folder / "c.laz")
    paths = [folder / f"{name}.laz" for name in "abc"]
    propose_spec(paths, folder / "spec.yaml")
    loaded = read_spec(folder / "spec.yaml")
    assert [path.name for path in loaded.clouds["predict"]] == ["c.laz"]
    assert len(loaded.clouds["train"]) == 1


@pytest.mark.slow
def test_a_dimension_that_one_cloud_lacks_is_no_feature(folder):
    las = laspy.read(folder / "b.laz")
    las.intensity[:] = 100
    las.write(folder / "b.laz")
    text = propose_spec([folder / "a.laz", folder / "b.laz"], folder / "spec.yaml")
    assert "  - relative_intensity" not in text


def test_nothing_is_overwritten_by_default(folder):
    (folder / "spec.yaml").write_text("mine")
    with pytest.raises(SpecError, match="--overwrite"):
        propose_spec([folder / "a.laz"], folder / "spec.yaml")
    assert (folder / "spec.yaml").read_text() == "mine"
    assert not (folder / "spec_blocks").exists()
    (folder / "s_blocks").mkdir()
    (folder / "s_blocks/a_train.laz").write_text("mine")
    with pytest.raises(SpecError, match="--split-into"):
        propose_spec([folder / "a.laz"], folder / "s.yaml")


def test_a_block_never_overwrites_its_source(folder):
    (folder / "a.laz").rename(folder / "a_train.laz")
    (folder / "a.laz").symlink_to(folder / "a_train.laz")
    with pytest.raises(SpecError, match="--split-into"):
        propose_spec(
            [folder / "a.laz"],
            folder / "s.yaml",
            split_into=folder,
            overwrite=True,
        )


def test_clouds_without_labels_alone_are_refused(folder):
    forget(folder / "a.laz")
    with pytest.raises(DataError, match=r"a\.laz: has no class codes"):
        propose_spec([folder / "a.laz"], folder / "spec.yaml")
    assert not (folder / "spec.yaml").exists()


def test_one_class_is_refused(folder):
    las = laspy.read(folder / "a.laz")
    las.classification[:] = 2
    las.write(folder / "a.laz")
    with pytest.raises(DataError, match=r"two classes.*9,000 of code 2"):
        propose_spec([folder / "a.laz"], folder / "spec.yaml")


def blocks_of(spec):
    """Training and validation points from above, and how near the two come."""
    loaded = read_spec(spec)
    train, held_out = (
        np.concatenate([laspy.read(path).xyz[:, :2] for path in loaded.clouds[group]])
        for group in ("train", "validation")
    )
    apart = cKDTree(train).query(held_out)[0].min()
    return loaded, len(train), len(held_out), apart


@pytest.mark.slow
@pytest.mark.parametrize("step", [40.0, 30.0], ids=["touch", "overlap a little"])
def test_validation_leaves_a_gap_to_adjacent_tiles(tmp_path, step):
    for number, name in enumerate("ab"):
        shift = (step * number, 0, 0)
        write_place(tmp_path / f"{name}.laz", number, 9000, shift=shift)
    before = (tmp_path / "b.laz").read_bytes()
    paths = [tmp_path / "a.laz", tmp_path / "b.laz"]
    text = propose_spec(paths, tmp_path / "spec.yaml")
    loaded, trained, held_out, apart = blocks_of(tmp_path / "spec.yaml")
    assert apart > 1
    assert trained == 9000
    assert 6000 < held_out < 9000
    assert "next to training clouds" in text
    (path,) = loaded.clouds["validation"]
    assert path.parent.name == "spec_blocks"
    assert (tmp_path / "b.laz").read_bytes() == before


@pytest.mark.slow
def test_overlapping_clouds_are_split_along_one_line(tmp_path):
    for number, name in enumerate("ab"):
        shift = (4.0 * number, 0, 0)
        write_place(tmp_path / f"{name}.laz", number, 9000, shift=shift)
    text = propose_spec(
        [tmp_path / "a.laz", tmp_path / "b.laz"], tmp_path / "spec.yaml"
    )
    _, trained, held_out, apart = blocks_of(tmp_path / "spec.yaml")
    assert apart > 1
    assert held_out / (trained + held_out) == pytest.approx(0.2, abs=0.05)
    assert "all clouds, which overlap" in text


@pytest.mark.slow
def test_withheld_points_are_ignored_with_a_comment(folder):
    las = laspy.read(folder / "a.laz")
    las.withheld[:] = np.asarray(las.classification) == 6
    las.write(folder / "a.laz")
    text = propose_spec([folder / "a.laz", folder / "b.laz"], folder / "spec.yaml")
    loaded = read_spec(folder / "spec.yaml")
    count = int(np.count_nonzero(las.withheld))
    assert loaded.spec.excluded_points.flags == ["withheld"]
    assert f"{count:,} points are withheld" in text
    labels = read_cloud(folder / "a.laz", loaded.spec).labels
    assert (labels[np.asarray(las.withheld) == 1] == -1).all()
    assert (labels >= 0).sum() == 9000 - count


@pytest.mark.slow
def test_points_flagged_as_overlap_get_a_comment(folder):
    las = laspy.read(folder / "a.laz")
    las.overlap[:400] = 1
    las.write(folder / "a.laz")
    text = propose_spec([folder / "a.laz", folder / "b.laz"], folder / "spec.yaml")
    assert "400 points are flagged as overlap" in text


def test_a_missing_folder_is_refused_at_once(folder):
    with pytest.raises(SpecError, match="does not exist"):
        propose_spec([folder / "a.laz"], folder / "none/spec.yaml")


@pytest.mark.slow
def test_the_command_writes_a_spec_without_keras(folder):
    code = (
        "import sys\n"
        "from vl3d_lite.cli.app import app\n"
        "app(['init', *sys.argv[2:], '--output', sys.argv[1]], standalone_mode=False)\n"
        "sys.exit(bool({'keras', 'tensorflow', 'open3d'} & set(sys.modules)))"
    )
    paths = [folder / "spec.yaml", folder / "a.laz", folder / "b.laz"]
    result = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "next: vl3d-lite plan" in result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("with_other", [True, False])
def test_code_1_beside_clouds_with_vegetation_codes_is_asked_about(folder, with_other):
    write_place(folder / "c.laz", 3, 9000, shift=(300, 0, 0))
    las = laspy.read(folder / "c.laz")
    las.classification[las.classification != 2] = 1
    las.classification[:1500] = 1
    las.write(folder / "c.laz")
    for name in "ab" if with_other else "":
        las = laspy.read(folder / f"{name}.laz")
        las.classification[np.flatnonzero(las.classification != 2)[::3]] = 1
        las.write(folder / f"{name}.laz")
    text = propose_spec([folder / f"{n}.laz" for n in "abc"], folder / "spec.yaml")
    share = np.mean(laspy.read(folder / "c.laz").classification == 1)
    asked = f"# Does code 1 hold vegetation here? {share:.0%} of the points have it"
    assert text.count(asked) == 1
    spec = read_spec(folder / "spec.yaml").spec
    labels = cloud_labels(spec, folder / "c.laz").codes
    if with_other:
        assert labels == {
            "ground": [2],
            "vegetation": [5],
            "building": [6],
            "other": [],
            "vegetation or other": [1],
        }
        assert cloud_labels(spec, folder / "a.laz").codes["other"] == [1]
    else:
        assert "other" not in labels
        assert [1] not in labels.values()
        assert "ignore: [1]" in text
