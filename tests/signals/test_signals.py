"""A few signals at random moments, as `python -m tests.signals` sends many."""

import subprocess
import sys

import pytest


@pytest.mark.slow
def test_commands_end_with_their_code_and_go_on_to_equal_results():
    command = [sys.executable, "-m", "tests.signals", "--count", "6", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 signals, 0 wrong" in done.stdout
