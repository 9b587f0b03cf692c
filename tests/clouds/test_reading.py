import os
import resource
import struct
import subprocess
import sys

import laspy
import lazrs
import numpy as np
import pytest

from tests.clouds.las_files import VERSIONS_AND_FORMATS, make_las, patch
from vl3d_lite.clouds import laz_process, reading
from vl3d_lite.clouds.exclusion import Exclusion
from vl3d_lite.clouds.files import find_clouds
from vl3d_lite.clouds.reading import describe_las, read_las
from vl3d_lite.errors import DataError, ResourceError

EXTRA = (
    {"name": "reflectance", "type": "i2", "scales": [0.25], "offsets": [3.0]},
    {"name": "normal", "type": "3f4"},
    {"name": "height", "type": "f4"},
)


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize(("version", "point_format"), VERSIONS_AND_FORMATS)
def test_every_version_and_format_is_read(version, point_format, suffix, tmp_path):
    path = make_las(tmp_path / f"a.{suffix}", version, point_format)
    raw = laspy.read(path)
    names = [n for n in raw.point_format.dimension_names if n not in ("X", "Y", "Z")]
    cloud = read_las(path, dimensions=names, class_codes={"low": range(16)})
    np.testing.assert_array_equal(cloud.xyz.shape, (257, 3))
    for axis in range(3):
        world = np.array(raw.points["xyz"[axis]])
        np.testing.assert_allclose(cloud.xyz[:, axis], world, rtol=1e-14, atol=1e-9)
    for name in names:
        np.testing.assert_array_equal(cloud.attributes[name], np.array(raw[name]), name)
    for label, code in zip(cloud.labels, np.array(raw.classification), strict=True):
        assert label == (0 if code < 16 else -1)


@pytest.mark.parametrize(
    ("version", "point_format"), [("1.1", 1), ("1.2", 0), ("1.3", 4), ("1.4", 6)]
)
def test_flagged_points_have_no_label_and_are_not_counted(
    version, point_format, tmp_path
):
    path = make_las(tmp_path / "a.laz", version, point_format)
    raw = laspy.read(path)
    raw.withheld[:] = np.arange(257) % 5 == 0
    raw.synthetic[:] = np.arange(257) % 7 == 0
    raw.write(path)
    codes = np.array(raw.classification)
    classes = {"all": range(256)}
    assert (read_las(path, class_codes=classes).labels == 0).all()
    for flags in (["withheld"], ["withheld", "synthetic"]):
        flagged = np.any([np.array(raw[flag]) for flag in flags], axis=0)
        labels = read_las(path, class_codes=classes, ignored=flags).labels
        np.testing.assert_array_equal(labels, np.where(flagged, -1, 0))
        found, counts = np.unique(codes[~flagged], return_counts=True)
        found_codes = describe_las(path, count_codes=True, ignored=flags).code_counts
        assert found_codes == dict(zip(found.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("point_format", [1, 6])
def test_formats_without_the_overlap_flag_have_no_flagged_point(point_format, tmp_path):
    version = "1.2" if point_format == 1 else "1.4"
    path = make_las(tmp_path / "a.las", version, point_format)
    raw = laspy.read(path)
    if point_format == 6:
        raw.overlap[:] = 0
        raw.overlap[3] = 1
        raw.write(path)
    labels = read_las(path, class_codes={"all": range(256)}, ignored=["overlap"]).labels
    assert np.flatnonzero(labels < 0).tolist() == ([3] if point_format == 6 else [])


@pytest.mark.parametrize("shift", [7_000, 123_456_789])
@pytest.mark.parametrize("scale", [0.01, 0.001, 0.0025, 1e-7])
def test_a_shift_by_whole_steps_changes_no_bit_of_the_local_coordinates(
    scale, shift, tmp_path
):
    path = make_las(tmp_path / "a.las", scale=(scale,) * 3)
    moved = laspy.read(path)
    for axis in "XYZ":
        moved.points[axis] = np.array(moved.points[axis]) + shift
    moved.write(tmp_path / "moved.las")
    patch(tmp_path / "moved.las", 155, "<3d", 1_200_000.0, 11_400_000.0, 3.0)
    here, there = read_las(path), read_las(tmp_path / "moved.las")
    assert here.local.tobytes() == there.local.tobytes()
    assert here.local.min() == 0
    assert np.abs(here.origin - there.origin).min() > 1e-4


def test_integers_of_full_range_stay_exact(tmp_path):
    path = make_las(tmp_path / "a.las", scale=(0.5, 0.5, 0.5), offset=(0, 0, 0))
    raw = laspy.read(path)
    raw.points["X"][:2] = [-(2**31), 2**31 - 1]
    raw.write(path)
    assert read_las(path).local[1, 0] == (2**32 - 1) * 0.5


def test_classes_are_numbered_in_their_order(tmp_path):
    path = make_las(tmp_path / "a.laz", point_format=6, count=2000)
    codes = np.array(laspy.read(path).classification)
    classes = {"ground": [2, 200], "vegetation": (3, 4, 5), "noise": [7]}
    labels = read_las(path, class_codes=classes).labels
    assert labels.dtype == np.int32
    index = {2: 0, 200: 0, 3: 1, 4: 1, 5: 1, 7: 2}
    assert labels.tolist() == [index.get(code, -1) for code in codes]
    assert set(labels) == {-1, 0, 1, 2}


def test_without_classes_every_point_is_unlabeled(tmp_path):
    path = make_las(tmp_path / "a.las")
    assert set(read_las(path).labels) == {-1}


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_extra_dimensions_come_as_values(suffix, tmp_path):
    path = make_las(tmp_path / f"a.{suffix}", extra=EXTRA)
    names = ["reflectance", "height", "normal[0]", "normal[2]"]
    cloud, raw = read_las(path, dimensions=names), laspy.read(path)
    assert list(cloud.attributes) == names
    stored = raw.points.array["reflectance"]
    assert cloud.attributes["reflectance"].dtype == np.float64
    for i in range(257):
        assert cloud.attributes["reflectance"][i] == stored[i] * 0.25 + 3.0
    np.testing.assert_array_equal(cloud.attributes["height"], raw.height)
    np.testing.assert_array_equal(cloud.attributes["normal[2]"], raw.normal[:, 2])


@pytest.mark.parametrize(("options", "expected"), [(8, 2.5), (16, 13.0), (0, 10.0)])
def test_scale_and_offset_of_an_extra_dimension_each_count_alone(
    options, expected, tmp_path
):
    path = make_las(tmp_path / "a.las", extra=EXTRA[:1])
    raw = laspy.read(path)
    raw.points.array["reflectance"] = 10
    raw.write(path)
    patch(path, 375 + 54 + 3, "<B", options)
    cloud = read_las(path, dimensions=["reflectance"])
    assert set(cloud.attributes["reflectance"]) == {expected}


NO_DATA = {"f4": -9999.0, "f8": -1.5, "i2": -9999, "u2": 65535, "u1": 255, "i8": -1}


@pytest.mark.parametrize("encoding", ["wide", "narrow"])
@pytest.mark.parametrize("kind", NO_DATA)
def test_declared_no_data_is_nan(kind, encoding, tmp_path):
    value = NO_DATA[kind]
    declared = np.array([value], kind)
    extra = {"name": "reflectance", "type": kind, "no_data": declared}
    path = make_las(tmp_path / "a.las", extra=[extra])
    raw = laspy.read(path)
    raw.points.array["reflectance"] = np.arange(257) % 100
    raw.points.array["reflectance"][[3, 200]] = value
    raw.write(path)
    if encoding == "narrow":  # as some writers store it
        padded = declared.tobytes().ljust(8, b"\0")
        patch(path, 375 + 54 + 40, "<8s", padded)
    cloud = read_las(path, dimensions=["reflectance"])
    values = cloud.attributes["reflectance"]
    assert cloud.missing == {"reflectance"}
    assert np.flatnonzero(np.isnan(values)).tolist() == [3, 200]
    assert values[99] == 99
    assert values.dtype == ("f4" if kind == "f4" else "f8")


def test_no_data_beyond_float32_is_no_value_of_it(tmp_path):
    extra = {"name": "r", "type": "f4", "no_data": np.array([0], "f4")}
    path = make_las(tmp_path / "a.las", extra=[extra])
    patch(path, 375 + 54 + 40, "<d", -1.7e308)
    assert np.isfinite(read_las(path, dimensions=["r"]).attributes["r"]).all()


def test_no_data_of_a_scaled_dimension_is_a_stored_value(tmp_path):
    extra = {"name": "r", "type": "i2", "scales": [0.1], "offsets": [3.0]}
    extra["no_data"] = np.array([-9999], "i2")
    path = make_las(tmp_path / "a.las", extra=[extra])
    raw = laspy.read(path)
    raw.points.array["r"] = 20
    raw.points.array["r"][7] = -9999
    raw.write(path)
    values = read_las(path, dimensions=["r"]).attributes["r"]
    assert np.isnan(values[7])
    assert set(np.delete(values, 7)) == {20 * 0.1 + 3.0}


def test_nan_is_missing_where_it_is_declared(tmp_path):
    path = make_las(tmp_path / "town.las", extra=EXTRA)
    raw = laspy.read(path)
    raw.height[[5, 9]] = [np.nan, np.inf]
    raw.write(path)
    with pytest.raises(DataError, match=r"point 5 has nan .* set `nan: missing`"):
        read_las(path, dimensions=["height"])
    with pytest.raises(DataError, match="point 9 has inf"):
        read_las(path, dimensions=["height"], nan_missing=["height"])
    raw.height[9] = 1
    raw.write(path)
    cloud = read_las(path, dimensions=["height"], nan_missing=["height"])
    assert np.flatnonzero(np.isnan(cloud.attributes["height"])).tolist() == [5]
    assert cloud.missing == {"height"}


@pytest.fixture
def noisy(tmp_path):
    """Point 0 is low noise, 1 withheld ground, 2 withheld noise; the others ground."""
    path = make_las(tmp_path / "noisy.las", extra=EXTRA)
    raw = laspy.read(path)
    raw.classification[:] = 2
    raw.classification[[0, 2]] = 7
    raw.withheld[:] = 0
    raw.withheld[[1, 2]] = 1
    raw.points["Z"][:3] = -5_000_000
    raw.height[:3] = np.nan
    raw.write(path)
    return path


EXCLUSIONS = {
    "noise and withheld": (Exclusion([7, 18], ["withheld"]), [0, 1, 2]),
    "noise": (Exclusion([7, 18]), [0, 2]),
    "withheld": (Exclusion([], ["withheld"]), [1, 2]),
    "noise that is a class": (Exclusion([7, 18], ["withheld"], [7]), [1]),
    "overlap": (Exclusion([], ["overlap", "withheld"], [2, 7]), []),
    "nothing": (Exclusion(), []),
}


@pytest.mark.parametrize("what", EXCLUSIONS)
def test_excluded_points_are_marked_and_have_no_class(what, noisy):
    excluded, expected = EXCLUSIONS[what]
    options = {"class_codes": {"ground": [2], "noise": [7]}, "excluded": excluded}
    cloud = read_las(noisy, **options)
    found = [] if cloud.excluded is None else np.flatnonzero(cloud.excluded).tolist()
    assert found == expected
    labels = np.zeros(257, int)
    labels[[0, 2]] = 1
    labels[expected] = -1
    assert cloud.labels.tolist() == labels.tolist()
    counts = describe_las(noisy, count_codes=True, excluded=excluded).code_counts
    codes = np.where(labels == 1, 7, 2)[labels >= 0]
    assert counts == {c: (codes == c).sum() for c in set(codes.tolist())}


def test_excluded_points_move_no_origin_and_may_hold_nan(noisy):
    excluded = Exclusion([7], ["withheld"])
    cloud = read_las(noisy, dimensions=["height"], excluded=excluded)
    assert cloud.local[3:].min(axis=0).tolist() == [0, 0, 0]
    assert cloud.local[0, 2] < -3000
    raw = laspy.read(noisy)
    np.testing.assert_allclose(cloud.xyz[:, 2], np.array(raw.z), atol=1e-6)
    with pytest.raises(DataError, match="point 0 has nan"):
        read_las(noisy, dimensions=["height"])


def test_a_file_of_excluded_points_alone_is_refused(noisy):
    with pytest.raises(DataError, match=r"all 257 points are excluded \(code 2, 7\)"):
        read_las(noisy, excluded=Exclusion([2, 7]))


def test_chunks_are_joined_in_order(tmp_path, monkeypatch):
    paths = [make_las(tmp_path / f"a.{s}", count=2500) for s in ("las", "laz")]
    whole = [read_las(p, dimensions=["gps_time"]) for p in paths]
    monkeypatch.setattr("vl3d_lite.clouds.points.LAS_CHUNK", 700)
    monkeypatch.setattr("vl3d_lite.clouds.points.LAZ_CHUNK", 700)
    steps = []
    for path, expected in zip(paths, whole, strict=True):
        cloud = read_las(
            path, dimensions=["gps_time"], progress=lambda *step: steps.append(step)
        )
        assert cloud.local.tobytes() == expected.local.tobytes()
        times = cloud.attributes["gps_time"]
        np.testing.assert_array_equal(times, expected.attributes["gps_time"])
    assert steps == [(700, 2500), (1400, 2500), (2100, 2500), (2500, 2500)] * 2


@pytest.mark.parametrize("suffix", ["las", "laz"])
def test_a_sample_is_spread_over_the_file(suffix, tmp_path):
    n = 260_000
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales = [0.01] * 3
    las = laspy.LasData(header)
    las.X = las.Y = las.Z = np.arange(n)
    las.gps_time = np.arange(n)
    las.write(tmp_path / f"a.{suffix}")
    cloud = read_las(tmp_path / f"a.{suffix}", dimensions=["gps_time"], most=90_000)
    # Two spans of 45,000 points, which begin at chunks of 50,000.
    expected = np.r_[0:45_000, 200_000:245_000]
    np.testing.assert_array_equal(cloud.attributes["gps_time"], expected)
    np.testing.assert_allclose(cloud.local[:, 0], expected * 0.01)


def test_a_missing_dimension_names_what_there_is(tmp_path):
    path = make_las(tmp_path / "town.las", "1.2", 1)
    with pytest.raises(DataError, match=r"town\.las: no dimension `red`\. It has: X, "):
        read_las(path, dimensions=["intensity", "red"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_names_point_and_dimension(
    value, tmp_path, monkeypatch
):
    monkeypatch.setattr("vl3d_lite.clouds.points.LAS_CHUNK", 100)
    path = make_las(tmp_path / "town.las", extra=EXTRA)
    raw = laspy.read(path)
    raw.height[123] = value
    raw.write(path)
    with pytest.raises(
        DataError, match=rf"point 123 has {value} in dimension `height`"
    ) as caught:
        read_las(path, dimensions=["height"])
    assert str(path) in str(caught.value)
    assert len(read_las(path)) == 257  # harmless where nobody asks for it


def test_broken_compressed_points_are_an_error(tmp_path):
    path = make_las(tmp_path / "a.laz", point_format=3, version="1.2", count=3000)
    data = bytearray(path.read_bytes())
    start = int.from_bytes(data[96:100], "little")
    table = int.from_bytes(data[start : start + 8], "little")
    data[table + 8 :] = b"\xff" * (len(data) - table - 8)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="points cannot be read"):
        read_las(path)


def peak_memory():
    """Kilobytes that this process has ever held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize("layer", range(10))
def test_a_layer_that_claims_gigabytes_is_refused_in_little_memory(
    layer, tmp_path, monkeypatch
):
    monkeypatch.setattr(laz_process, "_take", lambda: None)  # measured: this process
    path = make_las(tmp_path / "a.laz", point_format=7, count=3000)
    start = struct.unpack_from("<I", path.read_bytes(), 96)[0]
    patch(path, start + 8 + 36 + 4 + 4 * layer, "<I", 3_000_000_000)
    before = peak_memory()
    with pytest.raises(DataError, match="a chunk claims more bytes than it has"):
        read_las(path)
    assert peak_memory() - before < 100_000


def test_chunks_that_claim_gigabytes_are_refused(tmp_path):
    path = make_las(tmp_path / "a.laz", "1.2", 3, count=3000)
    data = path.read_bytes()
    with laspy.open(path) as file:
        start, (record,) = file.header.offset_to_point_data, file.header.vlrs
    with open(path, "r+b") as file:
        file.seek(int.from_bytes(data[start : start + 8], "little"))
        laz = lazrs.LazVlr(record.record_data)
        lazrs.write_chunk_table(file, [(50_000, 10**9)], laz)
    with pytest.raises(DataError, match="chunks claim more bytes than there are"):
        read_las(path)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path):
    path = make_las(tmp_path / "a.las", count=1000)
    header = reading.read_header(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="ended while it was read"):
        list(reading.read_records(header))


def test_an_error_of_memory_names_the_amount_needed(tmp_path, monkeypatch):
    path = make_las(tmp_path / "a.las")

    def refuse(*_):
        raise MemoryError

    monkeypatch.setattr(reading.np, "full", refuse)
    with pytest.raises(ResourceError, match=r"257 points need 0\.0 GiB of memory"):
        read_las(path)


def test_a_summary_describes_a_file(tmp_path):
    path = make_las(tmp_path / "a.laz", "1.3", 3, extra=EXTRA)
    summary = describe_las(path, count_codes=True)
    assert (summary.version, summary.point_format) == ("1.3", 3)
    assert summary.compressed
    assert summary.points == 257
    assert "gps_time" in summary.dimensions
    assert summary.extra_dimensions == (
        "reflectance",
        *("normal[0]", "normal[1]", "normal[2]"),
        "height",
    )
    assert summary.scales.tolist() == [0.01, 0.01, 0.001]
    assert summary.offsets.tolist() == [500_000, 4_800_000, -20]
    raw = laspy.read(path)
    assert summary.extent.tolist() == [list(raw.header.mins), list(raw.header.maxs)]
    codes, counts = np.unique(np.array(raw.classification), return_counts=True)
    assert summary.code_counts == dict(
        zip(codes.tolist(), counts.tolist(), strict=True)
    )
    assert describe_las(path).code_counts is None


@pytest.fixture
def folder(tmp_path):
    for name in ("b.las", "A.LAZ", "c.copc.laz", "notes.txt", "deep/d.las", "[x].las"):
        path = tmp_path / "tiles [1]" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"LASF")
    return tmp_path / "tiles [1]"


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["."], ["A.LAZ", "[x].las", "b.las", "c.copc.laz"]),
        (["*.las"], ["[x].las", "b.las"]),
        (["**/*.las"], ["[x].las", "b.las", "deep/d.las"]),
        (["*"], ["A.LAZ", "[x].las", "b.las", "c.copc.laz"]),
        (["b.las", "*.l*", "./b.las"], ["[x].las", "b.las", "c.copc.laz"]),
        (["[x].las"], ["[x].las"]),
        (["b.las", "deep/../b.las"], ["b.las"]),
        (["deep", "b.las"], ["b.las", "deep/d.las"]),
        (["notes.txt"], ["notes.txt"]),
    ],
)
def test_clouds_are_found_sorted_and_once(patterns, expected, folder):
    found = find_clouds(patterns, folder)
    assert [str(p.relative_to(folder)) for p in found] == expected


def test_absolute_paths_need_no_base(folder, tmp_path):
    assert find_clouds([str(folder)], tmp_path / "elsewhere")[0].name == "A.LAZ"


def test_a_folder_does_not_give_drafts_of_a_killed_process(tmp_path):
    for name in ("a.laz", ".123.part-b.laz"):
        (tmp_path / name).touch()
    assert find_clouds([str(tmp_path)], tmp_path) == [tmp_path / "a.laz"]


@pytest.mark.parametrize("pattern", ["none.las", "*.e57", "deep/deeper", "notes*"])
def test_a_pattern_that_finds_nothing_is_named(pattern, folder):
    with pytest.raises(DataError) as caught:
        find_clouds(["b.las", pattern], folder)
    assert str(caught.value).startswith(f"{pattern}: no .las or .laz file found")


def test_a_folder_that_may_not_be_read_is_an_error(folder, monkeypatch):
    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(DataError, match="cannot be read"):
        find_clouds(["."], folder)


def test_clouds_are_read_without_keras():
    code = (
        "import sys, vl3d_lite.clouds.reading, vl3d_lite.clouds.cloud\n"
        "print({'keras', 'tensorflow'} & set(sys.modules))"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.check_output(run, text=True).strip() == "set()"


def test_an_unreadable_folder_under_a_glob_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    make_las(tmp_path / "a.las")
    make_las(tmp_path / "sub/b.las")
    pattern = str(tmp_path / "**/*.las")
    assert len(find_clouds([pattern], tmp_path)) == 2
    scandir = os.scandir

    def shut(path="."):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", shut)
    with pytest.raises(DataError, match="cannot be read"):
        find_clouds([pattern], tmp_path)
