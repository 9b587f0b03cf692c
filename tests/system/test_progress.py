"""The progress of a command, on a terminal and in a log file."""

import io

import pytest

from vl3d_lite.system import progress
from vl3d_lite.system.progress import ProgressBar


class Stream(io.StringIO):
    """A stderr that is a terminal, or is not."""

    def __init__(self, terminal):
        super().__init__()
        self.terminal = terminal

    def isatty(self):
        return self.terminal


@pytest.fixture
def stderr(monkeypatch):
    """Replaces stderr; in the test, since pytest captures it when a test begins."""

    def replace(*, terminal=False):
        stream = Stream(terminal)
        monkeypatch.setattr("sys.stderr", stream)
        return stream

    return replace


@pytest.fixture
def clock(monkeypatch):
    """The seconds that lines are printed by."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_file_gets_a_line_every_30_seconds_and_one_at_the_end(stderr, clock):
    shown = stderr()
    with ProgressBar(desc="training", total=12, unit="step", mininterval=0) as bar:
        for _ in range(12):
            clock[0] += 10
            bar.set_postfix(loss="0.5", refresh=False)
            bar.update()
    lines = shown.getvalue().splitlines()
    # At 30, 60, 90 and 120 s, and the end.
    assert len(lines) == 5
    assert lines[0].startswith("training: 25%, 3 of 12 steps, 00:00 elapsed, 00:0")
    assert lines[0].endswith(" left, loss=0.5")
    assert lines[-1].startswith("training: 100%, 12 of 12 steps")
    assert "\r" not in shown.getvalue()


def test_a_log_file_gets_a_line_while_nothing_advances(stderr, clock):
    shown = stderr()
    with ProgressBar(desc="predicting", total=2, unit="batch", leave=False) as bar:
        bar.refresh()  # as the monitor of tqdm does every 10 s
        assert shown.getvalue() == ""
        clock[0] = 31
        bar.refresh()
        bar.refresh()
        assert shown.getvalue().count("\n") == 1


def test_a_short_bar_that_does_not_stay_leaves_nothing_in_a_log_file(stderr):
    shown = stderr()
    for _ in ProgressBar(range(9), desc="reading", leave=False):
        pass
    assert shown.getvalue() == ""


def test_a_message_between_lines_is_the_only_thing_that_is_added(stderr):
    shown = stderr()
    bar = ProgressBar(desc="training", total=2, leave=False)
    bar.write("epoch 1/2", file=shown)
    assert shown.getvalue() == "epoch 1/2\n"
    bar.close()


def test_a_terminal_gets_a_bar_that_nothing_in_a_name_steers(stderr):
    shown = stderr(terminal=True)
    for _ in ProgressBar(range(3), desc="reading \x1b[2J.laz"):
        pass
    text = shown.getvalue()
    assert "\r" in text
    assert "100%|" in text
    assert "reading \\x1b[2J.laz" in text


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_shows_nothing(stderr, terminal):
    shown = stderr(terminal=terminal)
    for _ in ProgressBar(range(3), desc="reading", quiet=True):
        pass
    assert shown.getvalue() == ""
