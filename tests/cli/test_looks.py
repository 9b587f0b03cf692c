"""Commands that look at files."""

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.cli.processes import vl3d
from vl3d_lite.cli.app import app
from vl3d_lite.system.cache_folder import CacheFolder


@pytest.mark.slow
def test_a_page_never_overwrites_a_file_by_default(place, tmp_path):
    target = tmp_path / "scan.laz"
    target.write_text("mine")
    result = vl3d("inspect", place / "train.laz", "--html", target)
    assert result.returncode == 2
    assert "--overwrite" in result.stderr
    assert target.read_text() == "mine"


def cache_command(*args):
    return CliRunner().invoke(app, ["cache", *map(str, args)])


def test_the_cache_is_listed_and_cleared(tmp_path):
    cache = CacheFolder(tmp_path, 1 << 30)
    for key in ("a", "b"):
        record = {"source": f"scans/{key}.laz"}
        cache.write("clouds", key, {"xyz": np.zeros((1000, 3))}, record)
    cache.write("facts", "c", {}, {"source": "scans/a.laz"})
    (tmp_path / "clouds" / "b.npys").write_bytes(b"cut")
    (tmp_path / "clouds" / "notes.txt").write_text("mine")
    listed = cache_command("--folder", tmp_path).output
    assert "scans/a.laz" in listed
    assert "damaged" in listed
    assert "2 prepared clouds (0.0 MB), 1 facts" in listed
    cleared = cache_command("--folder", tmp_path, "--clear")
    assert cleared.output == f"{tmp_path}: 3 entries removed\n"
    assert "0 prepared clouds" in cache_command("--folder", tmp_path).output
    assert (tmp_path / "clouds" / "notes.txt").read_text() == "mine"


def test_a_cache_that_is_off_needs_a_folder():
    result = cache_command()
    assert result.exit_code == 1
    assert "name its folder with --folder" in str(result.exception)
    assert result.exception.exit_code == 2
