import pytest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("town.laz", "village.las"):
        (tmp_path / name).touch()
    return tmp_path
