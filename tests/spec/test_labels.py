"""The meaning of codes by group of clouds."""

from pathlib import Path

import pytest

from tests.spec.spec_texts import GOOD, errors_of, read
from vl3d_lite.spec.labels import cloud_labels, label_names, partial_labels
from vl3d_lite.spec.reader import dump_spec, read_spec

GROUP = (
    "{files: delft/*.laz, classes: {vegetation_or_building: 1, ground: 8}, ignore: 4}"
)


@pytest.fixture
def delft(folder):
    Path("delft").mkdir()
    Path("delft/a.laz").touch()
    return folder


def grouped(group=GROUP):
    return GOOD.replace("train: [town.laz]", f"train: [town.laz, {group}]")


def codes(spec, path):
    return list(cloud_labels(spec, Path(path)).codes.values())


def test_a_group_of_clouds_has_its_own_codes(delft):
    loaded = read(grouped())
    assert loaded.clouds["train"] == [delft / "delft/a.laz", delft / "town.laz"]
    spec = loaded.spec
    assert label_names(spec) == [*spec.class_names, "vegetation or building"]
    assert partial_labels(spec) == [(1, 2)]
    assert codes(spec, "town.laz") == [[2], [3, 4, 5], [6], []]
    # A class or code that the group names has no other meaning; the others keep it.
    assert codes(spec, "delft/a.laz") == [[8], [3, 5], [6], [1]]


def test_the_group_is_found_without_the_files(delft):
    spec = read(dump_spec(read(grouped()).spec), check_files=False).spec
    Path("delft/a.laz").unlink()
    assert codes(spec, "delft/a.laz")[3] == [1]
    assert codes(spec, "delft/sub/a.laz")[3] == []
    assert codes(spec, delft / "delft" / ".." / "delft" / "b.laz")[3] == [1]


def test_paths_of_groups_move_with_the_spec(delft):
    text = dump_spec(read(grouped()).spec, relative_to=delft / "runs" / "one")
    assert "../../delft/*.laz" in text
    Path("runs/one").mkdir(parents=True)
    Path("runs/one/spec.yaml").write_text(text)
    spec = read_spec("runs/one/spec.yaml", check_files=False).spec
    assert codes(spec, "delft/a.laz")[3] == [1]


def test_labels_of_an_extra_dimension(delft):
    labels = (
        "labels: {dimension: scalar_Label, codes: {ground: 1000, building: [-1, 2]}}"
    )
    group = "{files: delft/, labels: {dimension: truth}, ignore: [1000]}"
    spec = read(f"{grouped(group)}\n{labels}\n").spec
    for path, dimension, ground in (
        ("town.laz", "scalar_Label", [1000]),
        ("delft/a.laz", "truth", []),
    ):
        found = cloud_labels(spec, Path(path))
        assert found.dimension == dimension
        assert list(found.codes.values()) == [ground, [3, 4, 5], [-1, 2]]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            "ground: 8",
            "gruond: 8",
            "classes.gruond`: must be a class, or different cla",
        ),
        ("vegetation_or_building", "building or building", "different classes"),
        ("ground: 8", "ground: 1", "code 1 is already claimed by `vegetation_or_build"),
        ("ground: 8", "ground: 256", "must be from 0 to 255. Received: 256"),
        ("ignore: 4", "ignore: [8]", "code 8 is also a code of `ground`"),
        (
            "ignore: 4",
            "labels: {codes: {ground: 2}}",
            "give `classes` or `labels.codes`",
        ),
        ("files: delft/*.laz, ", "", "`clouds.train[1].files` is missing"),
        ("delft/*.laz", "delft/*.las", "`clouds.train[1].files[0]`: "),
        ("ignore: 4", "ignored: 4", "unknown key `clouds.train[1].ignored`; did you m"),
        ("ignore: 4}", "ignore: 4}, {files: delft/a.laz}", "whose codes differ"),
    ],
)
def test_names_what_is_wrong_with_a_group(delft, old, new, text):
    lines = errors_of(grouped(GROUP.replace(old, new)))
    assert any(text in line and line.startswith("a.yaml:8:") for line in lines), lines


def test_the_patterns_of_a_list_hold_those_of_its_groups(delft):
    clouds = read(grouped(), check_files=False).spec.clouds
    expected = [str(delft / "town.laz"), str(delft / "delft/*.laz")]
    assert clouds.patterns("train") == expected
    assert clouds.patterns("predict") == []
