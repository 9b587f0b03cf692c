"""Paths that no file can have are refused; odd ones that exist are read."""

from pathlib import Path

import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.system import expand_home, real_path, require_usable_path


def test_only_the_home_of_a_user_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expand_home("~/scans") == Path("/home/me/scans")
    assert expand_home("~backup.laz") == Path("~backup.laz")


def test_a_circle_of_links_has_a_path(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert real_path(tmp_path / "a").parent == real_path(tmp_path)


@pytest.mark.parametrize(
    ("path", "remedy"),
    [("a\0b", "remove it"), ("\udcff.laz", "rename"), ("x" * 300, "shorten it")],
)
def test_names_that_cannot_be_used_are_refused(path, remedy):
    with pytest.raises(DataError, match=remedy):
        require_usable_path(path)


def test_usual_names_are_accepted():
    for path in ("scan [1].laz", "Überflug/ebene 2.laz", "~x", "-a"):
        require_usable_path(path)
