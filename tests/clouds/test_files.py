"""Clouds are found by the names that files really have."""

import os

import pytest

from vl3d_lite.clouds.files import find_clouds
from vl3d_lite.errors import DataError


def make(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    "pattern",
    [
        "scans [2024]/*.laz",
        "scans [2024]",
        "scans [2024]/a[1].laz",
        "scans*/a[[]1].laz",
        "scans [2024]/**/*.laz",
    ],
)
def test_brackets_in_names_of_folders_are_brackets(tmp_path, pattern):
    make(tmp_path, "scans [2024]/a[1].laz", "scans 2/b.txt")
    expected = [tmp_path / "scans [2024]/a[1].laz"]
    assert find_clouds([pattern], tmp_path) == expected
    assert find_clouds([f"{tmp_path}/{pattern}"], tmp_path / "none") == expected


def test_brackets_of_a_pattern_still_choose(tmp_path):
    make(tmp_path, "a1.laz", "a2.laz", "a3.laz")
    found = find_clouds(["a[13].laz"], tmp_path)
    assert [path.name for path in found] == ["a1.laz", "a3.laz"]
    with pytest.raises(DataError, match=r"`\[\[\]` stands for `\[`"):
        find_clouds(["b[1].laz"], tmp_path)


def test_a_name_may_begin_with_a_tilde(tmp_path):
    make(tmp_path, "~backup.laz")
    assert find_clouds(["~backup.laz"], tmp_path) == [tmp_path / "~backup.laz"]
    with pytest.raises(DataError, match=r"~nobody\.laz: no \.las"):
        find_clouds(["~nobody.laz"], tmp_path)


def test_what_can_be_no_cloud_is_refused_with_its_own_remedy(tmp_path):
    os.mkfifo(tmp_path / "pipe.laz")
    (tmp_path / "circle.laz").symlink_to(tmp_path / "circle.laz")
    (tmp_path / "gone.laz").symlink_to(tmp_path / "nothing")
    make(
        tmp_path, "folder/a.laz", b"folder/\xff.laz".decode("utf-8", "surrogateescape")
    )
    for pattern, message in {
        "pipe.laz": "is a pipe or a device",
        "/dev/zero": "is a pipe or a device",
        "circle.laz": "is a link that leads to no file",
        "gone.laz": "is a link that leads to no file",
        "folder": "is not UTF-8, .*; rename",
        "\udcff.laz": "is not UTF-8, .*; rename",
        "a\0b.laz": "null character; remove it",
        "x" * 5000 + ".laz": "shorten it",
        "/".join(["x" * 250] * 20) + ".laz": "File name too long.*; shorten the path",
    }.items():
        with pytest.raises(DataError, match=message):
            find_clouds([pattern], tmp_path)
    assert len(find_clouds(["folder/a*"], tmp_path)) == 1


def test_a_file_and_a_link_to_it_are_one_cloud_of_one_name(tmp_path, caplog):
    make(tmp_path, "b.laz")
    (tmp_path / "a.laz").symlink_to(tmp_path / "b.laz")
    with caplog.at_level("INFO"):
        assert find_clouds(["."], tmp_path) == [tmp_path / "b.laz"]
    link, file = tmp_path / "a.laz", tmp_path / "b.laz"
    message = f"{link}: is the same file as {file}, the name that is used"
    assert caplog.messages == [message]
    assert find_clouds(["a.laz", "b.laz"], tmp_path) == [tmp_path / "a.laz"]
    caplog.clear()
    find_clouds(["b.laz", "./b.laz", "*.laz"], tmp_path / ".")
    assert all("a.laz: is the same" in message for message in caplog.messages)
