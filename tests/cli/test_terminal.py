"""What a command prints cannot steer the terminal, and may fail to be printed."""

import logging
import os
import subprocess
import sys

import pytest

from vl3d_lite.cli.options import configure_logging

COMMAND = [sys.executable, "-m", "vl3d_lite"]


@pytest.mark.slow
def test_escape_sequences_of_files_never_reach_a_terminal(tmp_path):
    spec = tmp_path / "a\x1b[31m.yaml"
    spec.write_text('"\\e[2J": 3\n')
    result = subprocess.run([*COMMAND, "check", spec], capture_output=True, text=True)
    assert result.returncode == 2
    assert "\x1b" not in result.stderr
    assert r"a\x1b[31m.yaml" in result.stderr
    assert r"\x1b[2J" in result.stderr


def test_logged_messages_are_escaped_and_shortened(capsys):
    configure_logging(quiet=False)
    logging.getLogger("vl3d_lite.x").warning("%s: \x1b[2J %s", "scan", "x" * 5000)
    written = capsys.readouterr().err
    assert r"scan: \x1b[2J xxx" in written
    assert "more characters" in written
    assert len(written) < 2200


def test_quiet_hides_messages_but_no_warning(capsys):
    configure_logging(quiet=True)
    logging.getLogger("vl3d_lite.x").info("progress")
    logging.getLogger("vl3d_lite.x").warning("outside the domain")
    assert capsys.readouterr().err == "outside the domain\n"


@pytest.mark.slow
@pytest.mark.parametrize("command", [["schema"], ["--help"], ["check", "spec.yaml"]])
def test_a_full_standard_output_is_exit_code_4(place, command):
    with open("/dev/full", "w") as full:
        result = subprocess.run(
            [*COMMAND, *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=place,
        )
    assert result.returncode == 4
    assert result.stderr.startswith("standard output: cannot be written (No space")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.slow
def test_a_locale_without_utf8_changes_no_file_and_no_exit_code(place, tmp_path):
    spec = tmp_path / "spec.yaml"
    text = (place / "spec.yaml").read_text().replace("vegetation", "Gebüsch")
    text = text.replace(", probabilities", "").replace("[t", f"[{place}/t")
    spec.write_text(text.replace("[val", f"[{place}/val"), encoding="utf-8")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for locale in (plain, {"LC_ALL": "C.UTF-8"}):
        result = subprocess.run(
            [*COMMAND, "plan", spec, "--set", "classes.Gebüsch.output_code=3"],
            capture_output=True,
            env={**os.environ, **locale},
        )
        assert result.returncode == 0, result.stderr
        assert b"Geb" in result.stdout
