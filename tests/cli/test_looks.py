"""Commands that look at files."""

import pytest

from tests.cli.processes import vl3d


@pytest.mark.slow
def test_a_page_never_overwrites_a_file_by_default(place, tmp_path):
    target = tmp_path / "scan.laz"
    target.write_text("mine")
    result = vl3d("inspect", place / "train.laz", "--html", target)
    assert result.returncode == 2
    assert "--overwrite" in result.stderr
    assert target.read_text() == "mine"
