"""A file is hashed once, and again where it has changed."""

import hashlib
import os
import shutil
import time

import pytest

from vl3d_lite.system import hashing
from vl3d_lite.system.file_cache import SETTLED_SECONDS, FileCache
from vl3d_lite.system.hashing import cached_hash, file_hash

AGES_AGO = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read, one after the other."""
    names, digest = [], hashlib.file_digest

    def counted(file, kind):
        names.append(os.path.basename(file.name))
        return digest(file, kind)

    monkeypatch.setattr(hashing.hashlib, "file_digest", counted)
    monkeypatch.setattr(hashing, "HASHES", FileCache(2))
    return names


@pytest.fixture
def files(tmp_path):
    """Two files of one size that have not changed for a while."""
    paths = [tmp_path / "a.las", tmp_path / "b.las"]
    for path in paths:
        path.write_text(path.name)
        os.utime(path, AGES_AGO)
    time.sleep(1.5 * SETTLED_SECONDS)
    return paths


def sha256(text):
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_file_is_hashed_once(files, read):
    for _ in range(3):
        assert [cached_hash(path) for path in files] == [
            sha256("a.las"),
            sha256("b.las"),
        ]
    assert read == ["a.las", "b.las"]
    assert file_hash(files[0]) == sha256("a.las")
    assert len(read) == 3  # `file_hash` reads the file whatever is known


@pytest.mark.parametrize("way", ["renamed", "in place"])
def test_a_file_that_was_replaced_is_hashed_again(files, read, way):
    path, other = files
    assert cached_hash(path) == sha256("a.las")
    if way == "renamed":
        other.replace(path)
    else:
        shutil.copyfile(other, path)
        os.utime(path, AGES_AGO)
    assert cached_hash(path) == sha256("b.las")
    assert read == ["a.las", "a.las"]


def test_a_file_that_changed_just_before_it_was_read_is_hashed_again(
    tmp_path, read, monkeypatch
):
    path = tmp_path / "a.las"
    path.write_text("a.las")
    digest = hashlib.file_digest

    def slow(file, kind):
        time.sleep(1.5 * SETTLED_SECONDS)
        return digest(file, kind)

    monkeypatch.setattr(hashing.hashlib, "file_digest", slow)
    assert cached_hash(path) == cached_hash(path)
    assert read == ["a.las", "a.las"]
