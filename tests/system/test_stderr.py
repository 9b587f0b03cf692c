"""Stderr of C++ libraries is discarded, and only while a block runs."""

import os

import pytest

from vl3d_lite.system.stderr import LOG_LEVEL, silenced_stderr


def write(text):
    os.write(2, text.encode())  # as C++ does, past `sys.stderr`


def test_only_what_a_block_writes_is_discarded(capfd, monkeypatch):
    monkeypatch.delenv(LOG_LEVEL, raising=False)
    write("before ")
    with silenced_stderr():
        assert os.environ[LOG_LEVEL] == "2"
        write("hidden ")
    write("after")
    assert capfd.readouterr().err == "before after"
    assert LOG_LEVEL not in os.environ


def test_an_error_propagates_and_stderr_is_restored(capfd, monkeypatch):
    monkeypatch.delenv(LOG_LEVEL, raising=False)

    def fail():
        with silenced_stderr():
            raise KeyError("name")

    with pytest.raises(KeyError, match="name"):
        fail()
    write("after")
    assert capfd.readouterr().err == "after"


@pytest.mark.parametrize("level", ["0", "1"])
def test_nothing_is_discarded_where_the_user_asks_for_it(capfd, monkeypatch, level):
    monkeypatch.setenv(LOG_LEVEL, level)
    with silenced_stderr():
        write("wanted")
    assert capfd.readouterr().err == "wanted"
    assert os.environ[LOG_LEVEL] == level


@pytest.mark.parametrize("level", ["2", "3"])
def test_a_level_that_hides_messages_is_kept(capfd, monkeypatch, level):
    monkeypatch.setenv(LOG_LEVEL, level)
    with silenced_stderr():
        write("written whatever the level is")
        assert os.environ[LOG_LEVEL] == level
    assert capfd.readouterr().err == ""
    assert os.environ[LOG_LEVEL] == level
