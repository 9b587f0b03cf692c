"""Lists of cloud files on the command line."""

import os

import pytest

from vl3d_lite.clouds.lists import find_listed_clouds
from vl3d_lite.errors import DataError


@pytest.fixture
def tiles(tmp_path):
    for name in ("b.laz", "a.laz", "c.las", "[1] # x.laz"):
        (tmp_path / name).touch()
    return tmp_path


def found(folder, *patterns):
    return [path.name for path in find_listed_clouds(patterns, folder)]


def test_a_list_keeps_its_order_and_skips_empty_lines(tiles):
    (tiles / "tiles.txt").write_text("c.las\n\nb.laz\r\n  \n[1] # x.laz")
    assert found(tiles, "@tiles.txt") == ["c.las", "b.laz", "[1] # x.laz"]


def test_a_file_that_is_named_twice_is_found_once(tiles):
    (tiles / "tiles.txt").write_text(f"c.las\n{tiles}/a.laz\n./c.las\n")
    (tiles / "more.txt").write_text("a.laz\n[1] # x.laz\n")
    assert found(tiles, "@tiles.txt", "b.laz", "a.laz", "@more.txt") == [
        *("a.laz", "b.laz", "c.las", "[1] # x.laz")
    ]


def test_a_file_whose_name_begins_with_the_sign_is_named_with_its_folder(tiles):
    (tiles / "@d.laz").touch()
    assert found(tiles, "./@d.laz") == ["@d.laz"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.laz\n\nabsent.laz\n", r"tiles\.txt:3: absent\.laz is no file, relative"),
        ("a.laz\n.\n", r"tiles\.txt:2: must name a \.las or \.laz file"),
        ("tiles.txt", r"tiles\.txt:1: must name a \.las or \.laz file.*tiles\.txt"),
        ("a.laz\nb\0.laz\n", r"tiles\.txt:2: .*null character"),
        ("\n \n", r"tiles\.txt: names no cloud; write one file per line"),
        (None, r"tiles\.txt: cannot be read .*; name a text file"),
    ],
)
def test_what_is_wrong_with_a_list_is_an_error_that_names_the_line(
    tiles, text, message
):
    if text is not None:
        (tiles / "tiles.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        found(tiles, "@tiles.txt")


def test_a_list_that_is_no_text_is_an_error(tiles):
    (tiles / "tiles.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"tiles\.txt: is not UTF-8"):
        found(tiles, "@tiles.txt")


def test_links_in_a_list_are_the_files_they_lead_to(tiles):
    (tiles / "link.laz").symlink_to("a.laz")
    (tiles / "folder").symlink_to(tiles)
    (tiles / "tiles.txt").write_text("link.laz\nfolder/a.laz\na.laz\nfolder/b.laz\n")
    assert found(tiles, "@tiles.txt") == ["link.laz", "b.laz"]
    (tiles / "lost.laz").symlink_to("absent.laz")
    (tiles / "tiles.txt").write_text("lost.laz\n")
    with pytest.raises(DataError, match=r"tiles\.txt:1: lost\.laz is no file"):
        found(tiles, "@tiles.txt")


def test_each_file_of_a_list_is_looked_at_once(tiles, monkeypatch):
    (tiles / "tiles.txt").write_text("a.laz\nb.laz\nc.las\n")
    looks = []
    for name in ("stat", "lstat"):
        plain = getattr(os, name)

        def look(path, *args, plain=plain, **options):
            looks.append(os.path.basename(path))
            return plain(path, *args, **options)

        monkeypatch.setattr(os, name, look)
    found(tiles, "@tiles.txt")
    assert [name for name in looks if name.endswith((".laz", ".las"))] == [
        *("a.laz", "b.laz", "c.las")
    ]
