"""Headers are parsed once, and again where a file has changed."""

import os
import shutil
import time
from collections import Counter
from pathlib import Path

import laspy
import numpy as np
import pytest

from tests.clouds.las_files import make_las
from tests.conftest import write_place
from vl3d_lite.clouds import header_check
from vl3d_lite.clouds.header_cache import HeaderCache
from vl3d_lite.clouds.header_check import read_header
from vl3d_lite.clouds.reading import describe_las, read_las
from vl3d_lite.errors import DataError
from vl3d_lite.system.file_cache import SETTLED_SECONDS

AGES_AGO = (1_000_000_000, 1_000_000_000)


@pytest.fixture
def parsed(monkeypatch):
    """How often the header of each file is parsed, by name."""
    counts = Counter()
    parse = header_check._Check.header

    def counted(check):
        counts[check.path.name] += 1
        return parse(check)

    monkeypatch.setattr(header_check._Check, "header", counted)
    monkeypatch.setattr(header_check, "CACHE", HeaderCache())
    return counts


def settle():
    time.sleep(1.5 * SETTLED_SECONDS)


def test_a_header_is_parsed_once_for_all_readers(tmp_path, parsed):
    path = make_las(tmp_path / "a.laz")
    settle()
    first = read_header(path)
    describe_las(path, count_codes=True)
    read_las(path)
    assert read_header(path) is first
    assert parsed == {"a.laz": 1}


def test_each_reader_gets_the_path_that_it_gave(tmp_path, parsed, monkeypatch):
    path = make_las(tmp_path / "a.las")
    settle()
    monkeypatch.chdir(tmp_path)
    assert read_header(path).path == path
    assert read_header(Path("a.las")).path == Path("a.las")
    assert read_las(Path("a.las")).name == "a.las"
    assert parsed == {"a.las": 1}


def test_a_header_that_readers_share_cannot_be_changed(tmp_path):
    header = read_header(make_las(tmp_path / "a.las"))
    for values in (header.scales, header.offsets, header.extent):
        with pytest.raises(ValueError, match="read-only"):
            values += 1


@pytest.mark.parametrize("way", ["renamed", "in place", "in place, times restored"])
def test_a_file_replaced_between_two_reads_is_parsed_again(tmp_path, parsed, way):
    path, other = tmp_path / "a.las", make_las(tmp_path / "other.las")
    make_las(path)
    las = laspy.read(other)
    las.classification[:] = 7  # the same size, other codes
    las.header.offsets = las.header.offsets + 1000.0
    las.write(other)
    for one in (path, other):
        os.utime(one, AGES_AGO)
    settle()
    before = describe_las(path, count_codes=True)
    if way == "renamed":
        other.replace(path)
    else:
        shutil.copyfile(other, path)
        if way != "in place":
            os.utime(path, AGES_AGO)
    after = describe_las(path, count_codes=True)
    assert parsed == {"a.las": 2}
    np.testing.assert_array_equal(after.offsets, before.offsets + 1000.0)
    assert set(after.code_counts) == {7} != set(before.code_counts)


def test_a_file_that_changed_just_now_is_not_kept(tmp_path, parsed):
    path = make_las(tmp_path / "a.las")
    read_header(path)
    read_header(path)
    assert parsed == {"a.las": 2}


def test_an_error_is_found_again_and_a_repair_is_seen(tmp_path, parsed):
    path = make_las(tmp_path / "a.las")
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    settle()
    for _ in range(2):
        with pytest.raises(DataError):
            read_header(path)
    path.write_bytes(whole)
    assert read_header(path).point_count
    assert parsed == {"a.las": 3}


def test_the_headers_read_longest_ago_are_forgotten_first(tmp_path, parsed):
    header = read_header(make_las(tmp_path / "a.las"))
    cache = HeaderCache(most=2)
    first, second, third = [("a", 1, n, 1, 0, 0) for n in range(3)]
    cache.put(first, header)
    cache.put(second, header)
    assert cache.get(first) is header
    cache.put(third, header)
    assert cache.get(second) is None
    assert cache.get(first) is cache.get(third) is header
    cache.clear()
    assert cache.get(first) is None


def test_a_file_made_of_records_fills_no_memory(tmp_path, parsed, monkeypatch):
    monkeypatch.setattr("vl3d_lite.clouds.header_cache.MOST_RECORDS", 2)
    path = tmp_path / "a.las"
    las = laspy.create(point_format=6)
    las.x = las.y = las.z = np.arange(5.0)
    las.vlrs.extend(laspy.VLR("mine", n, "", b"data") for n in range(3))
    las.write(path)
    settle()
    read_header(path)
    read_header(path)
    assert parsed == {"a.las": 2}


@pytest.mark.slow
def test_init_parses_the_header_of_a_split_cloud_once(tmp_path, parsed, monkeypatch):
    from vl3d_lite.guide.init.init import propose_spec

    write_place(tmp_path / "a.laz", 0, 9000)
    settle()
    opened = []
    monkeypatch.setattr(laspy, "open", lambda path, **_: opened.append(path))
    blocks = tmp_path / "blocks"
    propose_spec([tmp_path / "a.laz"], tmp_path / "s.yaml", split_into=blocks)
    assert parsed["a.laz"] == 1
    assert not opened
    assert len(list(blocks.iterdir())) == 2


@pytest.mark.slow
def test_train_and_predict_parse_each_header_once(place, tmp_path, parsed):
    from vl3d_lite import pipeline
    from vl3d_lite.runs.folder import RunFolder
    from vl3d_lite.runs.options import Options
    from vl3d_lite.spec.reader import read_spec

    folder = shutil.copytree(place, tmp_path / "place")
    settle()
    changes = ["training.epochs=1", "training.steps_per_epoch=1"]
    loaded = read_spec(folder / "spec.yaml", changes)
    run, options = RunFolder(tmp_path / "run"), Options(threads=2, quiet=True)
    pipeline.train(loaded, run, options)
    # The clouds to predict are compared with the others.
    assert parsed == {"train.laz": 1, "val.laz": 1, "test.laz": 1}
    parsed.clear()
    header_check.CACHE.clear()  # another command
    clouds = [folder / "test.laz", folder / "val.laz"]
    pipeline.predict(run, clouds, tmp_path / "out", options)
    assert {name: parsed[name] for name in ("test.laz", "val.laz")} == {
        "test.laz": 1,
        "val.laz": 1,
    }
