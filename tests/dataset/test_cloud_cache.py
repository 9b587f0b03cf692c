"""Prepared clouds and facts about clouds that come from the cache."""

import dataclasses
import logging
import os
import shutil
from pathlib import Path

import laspy
import numpy as np
import pytest
from pydantic import BaseModel

from tests.conftest import write_place
from vl3d_lite.dataset import files, known_facts, prepared_files
from vl3d_lite.dataset.cloud_cache import grid_settings, preparation_settings
from vl3d_lite.dataset.cloud_facts import labeled_facts
from vl3d_lite.dataset.data_warnings import cloud_warnings
from vl3d_lite.dataset.files import check_clouds, read_cloud
from vl3d_lite.dataset.prepared import prepare_cloud
from vl3d_lite.dataset.prepared_files import prepare_files, prepare_training_files
from vl3d_lite.dataset.scaling import FeatureScaling, impute_constant_features
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system import file_cache, hashing
from vl3d_lite.system.file_cache import FileCache


@pytest.fixture
def folder(place, tmp_path, monkeypatch):
    """The place, with a cache of its own; its files count as settled at once."""
    monkeypatch.setattr(file_cache, "SETTLED_SECONDS", 0)
    monkeypatch.setattr(hashing, "HASHES", FileCache(8))
    shutil.copytree(place, tmp_path / "place")
    monkeypatch.setenv("VL3D_LITE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "place"


def spec_of(folder, *sets):
    return read_spec(folder / "spec.yaml", sets, check_files=False).spec


def prepared(folder, *sets, name="train.laz"):
    return prepare_training_files(
        [folder / name], spec_of(folder, *sets), 1, quiet=True
    )


def refuse(*_args, **_options):
    raise AssertionError("the points were read")


@pytest.fixture
def no_reading(monkeypatch):
    def refuse_reading():
        monkeypatch.setattr(prepared_files, "read_cloud", refuse)

    return refuse_reading


def require_equal(one, other, where=""):
    """The same values, types and orders of axes; only one of both is stored."""
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other, err_msg=where, strict=True)
        assert one.flags.c_contiguous == other.flags.c_contiguous, where
        assert one.flags.f_contiguous == other.flags.f_contiguous, where
    elif dataclasses.is_dataclass(one):
        for field in dataclasses.fields(one):
            if field.name != "stored":
                values = (getattr(part, field.name) for part in (one, other))
                require_equal(*values, f"{where}.{field.name}")
    elif isinstance(one, list):
        for number, parts in enumerate(zip(one, other, strict=True)):
            require_equal(*parts, f"{where}[{number}]")
    else:
        assert one == other, where


GRIDS = (
    "training.augmentation.grids=2",
    "training.augmentation.thinning=0.3",
    "training.augmentation.slope=0.1",
)
SPECS = {
    "grids": GRIDS,
    "interpolated": ("model.upsampling=interpolated",),
    "nearest": ("fields.interlevel_neighbors=nearest",),
    "farthest": ("fields.sampling=farthest",),
    "wide features": ("features=[gps_time, vertical]",),
    "weights": (
        "model.gva.softmax=envelope",
        "model.source_weights={dimension: intensity}",
    ),
}


@pytest.mark.parametrize("sets", SPECS.values(), ids=SPECS)
def test_a_cloud_from_the_cache_is_that_of_memory(folder, no_reading, sets):
    in_memory = prepared(folder, "cache=off", *sets)
    stored = prepared(folder, *sets)
    no_reading()
    mapped = prepared(folder, *sets)
    require_equal(in_memory, stored)
    require_equal(in_memory, mapped)
    assert {cloud.stored is None for cloud in in_memory} == {True}
    for cloud in mapped:
        assert not cloud.features.flags.writeable
        np.testing.assert_array_equal(cloud.stored.axes, cloud.xyz.T)


def test_validation_clouds_keep_their_excluded_points(folder, no_reading):
    path, spec = folder / "val.laz", spec_of(folder)
    las = laspy.read(path)
    las.withheld[:100] = 1
    las.write(path)
    first = prepare_files([path], spec, 1, quiet=True, role="")[0]
    trained = prepare_training_files([path], spec, 1, quiet=True)[0]
    no_reading()
    again = prepare_files([path], spec, 1, quiet=True, role="")[0]
    require_equal(first, again)
    assert np.count_nonzero(again.excluded) == 100
    assert trained.excluded is None


def test_a_changed_file_is_another_cloud(folder):
    before = prepared(folder)[0]
    write_place(folder / "train.laz", seed=9)
    after = prepared(folder)[0]
    assert len(after.xyz) != len(before.xyz)
    require_equal(after, prepared(folder, "cache=off")[0])


def test_a_moved_file_is_the_same_cloud(folder, no_reading):
    prepared(folder)
    (folder / "train.laz").rename(folder / "renamed.laz")
    no_reading()
    assert prepared(folder, name="renamed.laz")[0].name == "renamed.laz"


def test_a_file_that_changes_while_it_is_read_is_not_stored(folder, monkeypatch):
    def read_and_change(path, *args, **options):
        cloud = read_cloud(path, *args, **options)
        write_place(path, seed=9)
        return cloud

    monkeypatch.setattr(prepared_files, "read_cloud", read_and_change)
    assert prepared(folder)[0].stored is None
    monkeypatch.undo()


def test_a_file_that_was_just_written_is_not_stored(folder, monkeypatch):
    monkeypatch.setattr(file_cache, "SETTLED_SECONDS", 60)
    os.utime(folder / "train.laz")
    assert prepared(folder)[0].stored is None


def test_what_is_reported_of_points_is_reported_again(folder, caplog, no_reading):
    las = laspy.read(folder / "train.laz")
    las.classification[:50] = 7
    las.write(folder / "train.laz")
    caplog.set_level(logging.INFO)
    prepared(folder)
    first = [record.getMessage() for record in caplog.records]
    caplog.clear()
    no_reading()
    prepared(folder)
    assert [record.getMessage() for record in caplog.records] == first
    assert "50 of 6,000 points are excluded" in first[0]


def test_a_full_disk_leaves_clouds_in_memory(folder, monkeypatch, caplog):
    monkeypatch.setenv("VL3D_LITE_CACHE", str(folder / "train.laz" / "cache"))
    clouds = prepared(folder, *GRIDS)
    assert {cloud.stored for cloud in clouds} == {None}
    assert caplog.text.count("the cache cannot be used") == 1


def test_a_constant_feature_is_imputed_without_changing_the_cache(folder):
    las = laspy.read(folder / "val.laz")
    las.intensity[:] = 7
    las.write(folder / "val.laz")
    sets = "features=[intensity, height]"
    scaling = FeatureScaling.fit(prepared(folder, sets))
    spec = spec_of(folder, sets)
    cloud = prepared(folder, sets, name="val.laz")[0]
    path = folder / "val.laz"
    imputed = impute_constant_features(path, cloud, spec, scaling, warn=False)
    assert np.allclose(imputed.features[:, 0], scaling.mean[0])
    assert (cloud.features[:, 0] == 7).all()
    again = prepared(folder, sets, name="val.laz")[0]
    require_equal(cloud, again)


class Recorder:
    """A section of a spec that records the keys that are read."""

    def __init__(self, section, read, path=()):
        object.__setattr__(self, "_given", (section, read, path))

    @property
    def __class__(self):
        return type(self._given[0])

    def __getattr__(self, name):
        section, read, path = self._given
        if name not in type(section).model_fields:
            return getattr(type(section), name).__get__(self)
        read.add((*path, name))
        value = getattr(section, name)
        if name == "stages":  # other lists are part of the key as a whole
            return [Recorder(one, read, (name,)) for one in value]
        wrap = isinstance(value, BaseModel)
        return Recorder(value, read, (*path, name)) if wrap else value


def test_the_key_holds_every_setting_that_the_preparation_reads(folder):
    """A key that does not depend on a setting would give the cloud of another one."""
    path = folder / "train.laz"
    for sets in SPECS.values():
        spec = spec_of(folder, *sets)
        shaping, keyed = set(), set()
        watched = Recorder(spec, shaping)
        for grid in range(spec.training.augmentation.grids):
            cloud = read_cloud(path, watched)
            prepare_cloud(cloud, watched, grid=grid)
            watching = Recorder(spec, keyed)
            preparation_settings(watching, path)
            grid_settings(watching, 0, grid)
        assert len(shaping) > 10
        whole = {one for one in shaping if one[:2] == ("model", "source_weights")}
        assert shaping - keyed - whole == set()


@pytest.mark.parametrize(
    "change",
    [
        "fields.grid_size=0.6",
        "fields.radius=9",
        "model.stages.0.neighbors=7",
        "model.upsampling=interpolated",
        "features=[height]",
        "classes.ground={codes: [2, 9], output_code: 2}",
        "ignored_flags=[overlap]",
        "excluded_points.codes=[]",
        "clouds.unit=ft",
    ],
)
def test_each_setting_changes_the_key(folder, change):
    path = folder / "train.laz"
    one, other = (
        preparation_settings(spec_of(folder, *s), path) for s in ((), [change])
    )
    assert repr(one) != repr(other)


def test_other_settings_change_no_key(folder):
    path = folder / "train.laz"
    sets = "training.epochs=9", "model.stages.0.channels=16", "seed=8"
    keys = [preparation_settings(spec_of(folder, *s), path) for s in ((), sets)]
    assert repr(keys[0]) == repr(keys[1])


def test_class_counts_are_read_once(folder, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    paths, spec = [folder / "train.laz"], spec_of(folder)
    check_clouds(paths, spec, count_classes=True)
    assert "cache" not in caplog.text
    counts = files.CODE_COUNTS
    unpacked = []
    monkeypatch.setattr(
        files,
        "CODE_COUNTS",
        counts._replace(
            unpack=lambda *a: unpacked.append(counts.unpack(*a)) or unpacked[-1]
        ),
    )
    check_clouds(paths, spec, count_classes=True)
    assert "class counts of 1 of 1 training clouds are from the cache" in caplog.text
    code = np.unique(laspy.read(paths[0]).classification, return_counts=True)
    assert unpacked == [dict(zip(*(part.tolist() for part in code), strict=True))]


def test_hashes_and_samples_outlive_the_process(folder, monkeypatch):
    shutil.copy(folder / "train.laz", folder / "copy.laz")
    clouds = {"train": [folder / "train.laz"], "validation": [folder / "copy.laz"]}
    spec = spec_of(folder)
    texts = cloud_warnings(spec, clouds)
    assert "has the same content" in texts[0]
    monkeypatch.setattr(hashing, "HASHES", FileCache(8))
    monkeypatch.setattr(hashing.hashlib, "file_digest", refuse)
    assert cloud_warnings(spec, clouds) == texts


def test_facts_about_a_cloud_are_those_of_memory(folder):
    spec, path = spec_of(folder), folder / "train.laz"
    fresh = labeled_facts(path, "train", prepared(folder, "cache=off")[0], spec)
    cloud = prepared(folder)[0]
    for _ in range(2):
        require_equal(labeled_facts(path, "train", cloud, spec), fresh)


def test_another_version_of_the_code_finds_nothing(folder, monkeypatch):
    first = prepared(folder)[0].stored.key
    monkeypatch.setattr(known_facts, "code_version", lambda *_: "another")
    assert prepared(folder)[0].stored.key != first


def test_the_folder_is_relative_to_the_spec(folder):
    spec = spec_of(folder)
    text = (folder / "spec.yaml").read_text()
    (folder / "spec.yaml").write_text(f"{text}cache: {{folder: here}}\n")
    assert known_facts.open_cache(spec_of(folder)).root == folder / "here"
    assert known_facts.open_cache(spec).root == Path(os.environ["VL3D_LITE_CACHE"])
    assert known_facts.open_cache(spec_of(folder, "cache=off")) is None


def test_facts_of_other_code_have_a_version_of_their_own():
    assert known_facts.code_version("guide") != known_facts.code_version()
