"""Paths that the system refuses end with one message, wherever they are given."""

import sys

import pytest

from vl3d_lite.cli import app

LOOP = "its links lead back to itself; give the path of the file"
LONG = "File name too long; give a shorter path"


@pytest.mark.parametrize(
    ("command", "path", "message"),
    [
        pytest.param("compare", "loop", LOOP, id="loop"),
        *(
            pytest.param(command, "é" * 2000, LONG, id=f"{command} long")
            for command in ("compare", "evaluate", "export", "verify")
        ),
    ],
)
def test_a_path_without_a_file_is_an_error_of_the_data(
    command, path, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    other = [path] if command == "compare" else []
    monkeypatch.setattr(sys, "argv", ["vl3d-lite", command, path, *other])
    with pytest.raises(SystemExit) as ended:
        app.main()
    errors = capsys.readouterr().err
    assert ended.value.code == 3
    assert message in errors
    assert len(errors) < 200
    assert "Traceback" not in errors
