"""Shards of a list of clouds."""

import numpy as np
import pytest

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.runs.shard import Shard


def files(folder, sizes):
    paths = [folder / f"{number:05}.laz" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        with path.open("wb") as file:
            file.truncate(int(size))
    return paths


@pytest.mark.parametrize("count", [1, 2, 7, 40, 100])
def test_the_parts_are_the_list_in_its_order_and_of_similar_size(tmp_path, count):
    sizes = np.random.default_rng(3).integers(0, 10**9, 60)
    paths = files(tmp_path, sizes)
    parts = [Shard(number, count).part(paths) for number in range(1, count + 1)]
    assert [path for part in parts for path in part] == paths
    for part in parts:
        size = sum(path.stat().st_size for path in part)
        assert abs(size - sizes.sum() / count) <= sizes.max()


def test_files_without_bytes_count_alike(tmp_path):
    paths = files(tmp_path, [0] * 6)
    assert [len(Shard(n, 3).part(paths)) for n in (1, 2, 3)] == [2, 2, 2]
    assert Shard(1, 3).part([]) == []


def test_a_file_that_has_disappeared_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.laz: cannot be read"):
        Shard(1, 2).part([tmp_path / "a.laz"])


def test_a_shard_is_read_and_printed_alike():
    assert Shard.parse("3/40") == Shard(3, 40)
    assert str(Shard(3, 40)) == "3/40"


@pytest.mark.parametrize(
    "text", ["3", "0/4", "5/4", "-1/4", "1/0", "a/b", "1/4/2", "", "1/999999999"]
)
def test_another_form_is_an_error_that_names_the_option(text):
    with pytest.raises(SpecError, match=r"--shard must be NUMBER/COUNT.*such as 3/40"):
        Shard.parse(text)
