"""Attention scores of a network on a cloud: numbers and export."""

import csv
import json

import numpy as np
import pytest

from vl3d_lite import pipeline
from vl3d_lite.dataset.batches import FieldSource, batch_spec, empty_batch
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.dataset.sweep import cover
from vl3d_lite.errors import SpecError
from vl3d_lite.evaluation import attention_scores, kernel_statistics
from vl3d_lite.model.backend import prepare_backend
from vl3d_lite.model.files import load_model
from vl3d_lite.model.network import build_network
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.reader import read_spec

SETTINGS = [
    "model.stages.1.blocks=[gqa]",
    "model.gqa.head_dim=4",
    "training.epochs=1",
    "training.steps_per_epoch=2",
    "prediction.votes=1",
    "export.plots=true",
]
OPTIONS = Options(threads=2, quiet=True)


@pytest.fixture(scope="module")
def network(place):
    spec = read_spec(place / "spec.yaml", SETTINGS).spec
    prepare_backend(1, 1)
    cloud = prepare_file(place / "val.laz", spec, 1)
    scaling = FeatureScaling.fit([cloud])
    model = build_network(
        spec.model,
        batch_spec(spec, len(scaling.names)),
        n_classes=len(spec.classes),
        spacings=spec.spacings,
    )
    return model, cloud, spec, scaling


@pytest.fixture(scope="module")
def found(network):
    return list(attention_scores.measure_scores(*network))


@pytest.fixture(scope="module")
def run(place, tmp_path_factory):
    """A run whose network has a `gqa` block: trained, saved, predicted with."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "global")
    pipeline.run(read_spec(place / "spec.yaml", SETTINGS), folder, OPTIONS)
    return folder


def test_fields_are_few_and_spread_over_the_cloud(network, found):
    cloud = network[1]
    assert [entry.number for entry in found] == [0, 1, 2, 3]
    assert {entry.layer for entry in found} == {"gqa_1_0"}
    middles = np.array([entry.xyz.mean(axis=0) for entry in found])
    assert np.ptp(middles[:, :2], axis=0).max() > 15  # of 40 m of the scan
    low = cloud.xyz.min(axis=0) + cloud.origin
    high = cloud.xyz.max(axis=0) + cloud.origin
    assert low[1] > 5_400_000
    for entry in found:
        assert (entry.xyz > low - 1).all()
        assert (entry.xyz < high + 1).all()


def test_points_are_points_of_the_level(network, found):
    cloud = network[1]
    level = cloud.hierarchy.levels[1].xyz + cloud.origin
    for entry in found:
        gaps = np.linalg.norm(entry.xyz[:, None] - level[None], axis=-1).min(axis=1)
        assert gaps.max() < 1e-3


def test_scores_equal_those_of_the_layer_on_the_field(network, found):
    model, cloud, spec, scaling = network
    layer = model.get_layer("gqa_1_0")
    inputs_of = type(model)(model.inputs, layer.input)
    source = FieldSource(cloud, spec, scaling)
    for entry in found:
        assert len(entry.xyz) > 20
        np.testing.assert_allclose(entry.scores.sum(axis=-1), 1, rtol=1e-4)
        # The field is identified by its points, regardless of its center.
        matched = False
        for center, rows in zip(*sweep_of(source, spec), strict=True):
            batch = empty_batch(spec, len(scaling.names), 1)
            source.write(batch, 0, center, rows)
            real = (batch["neighbors_1"][0] >= 0).any(axis=-1)
            xyz = batch["xyz_1"][0, real]
            if len(xyz) != len(entry.xyz):
                continue
            shift = (entry.xyz - xyz)[:, :2]
            if np.ptp(shift, axis=0).max() > 1e-3:
                continue
            matched = True
            scores = np.asarray(layer.attention_scores(inputs_of(batch)))[0]
            np.testing.assert_allclose(
                entry.scores, scores[:, real][:, :, real], atol=1e-5
            )
            nearest = np.linalg.norm(xyz, axis=1)
            assert nearest[entry.chosen] == nearest.min()
        assert matched


def sweep_of(source, spec):
    sweep = cover(source.prepared, spec, seed=spec.seed, extractor=source.extractor)
    return sweep.centers, sweep.rows


@pytest.mark.slow
def test_written_files_contain_the_measured_scores(found, tmp_path):
    files = attention_scores.write_scores(tmp_path, iter(found), plots=True)
    assert len(files) == 16
    entry = found[2]
    with np.load(tmp_path / "gqa_1_0/field_2.npz") as arrays:
        np.testing.assert_array_equal(arrays["scores"], entry.scores)
        np.testing.assert_array_equal(arrays["xyz"], entry.xyz)
        assert arrays["chosen"] == entry.chosen
    with open(tmp_path / "gqa_1_0/field_2.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(entry.xyz)
    for number in (0, len(rows) - 1):
        row = {name: float(value) for name, value in rows[number].items()}
        np.testing.assert_allclose(
            [row["x"], row["y"], row["z"]], entry.xyz[number], rtol=0, atol=5.1e-4
        )
        for head in range(4):
            received = sum(entry.scores[head, i, number] for i in range(len(rows)))
            assert row[f"received_{head}"] == pytest.approx(
                received / len(rows), rel=1e-4
            )
            looked = entry.scores[head, entry.chosen, number]
            assert row[f"from_chosen_{head}"] == pytest.approx(looked, rel=1e-4)
    total = sum(float(row["received_1"]) for row in rows)
    assert total == pytest.approx(1, rel=1e-3)


@pytest.mark.slow
def test_earlier_scores_are_removed_and_other_files_stay(found, tmp_path):
    attention_scores.write_scores(tmp_path, iter(found), plots=True)
    folder = tmp_path / "gqa_1_0"
    (folder / "notes.txt").write_text("mine")
    (folder / "field_of_mine.png").write_text("mine")
    attention_scores.write_scores(tmp_path, iter(found[:1]), plots=False)
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["field_0.csv", "field_0.npz", "field_of_mine.png", "notes.txt"]


@pytest.mark.slow
def test_statistics_contain_the_entropy_of_each_head(network, monkeypatch):
    model, cloud, spec, scaling = network
    monkeypatch.setattr(kernel_statistics, "FIELDS", 3)
    batches = list(kernel_statistics._sample(cloud, spec, scaling))
    statistics = kernel_statistics.measure_kernels(model, cloud, spec, scaling)
    layer = model.get_layer("gqa_1_0")
    inputs_of = type(model)(model.inputs, layer.input)
    entropies = []
    for inputs, _ in batches:
        scores = np.asarray(layer.attention_scores(inputs_of(inputs)), np.float64)
        for slot in range(len(scores)):
            real = (inputs["neighbors_1"][slot] >= 0).any(axis=-1)
            for row in np.flatnonzero(real):
                weights = scores[slot, :, row, real].T  # (U, n)
                entropies.append(
                    [-sum(w * np.log(w)) / np.log(real.sum()) for w in weights]
                )
    entropy = statistics["attention"]["gqa_1_0"]["entropy"]
    np.testing.assert_allclose(entropy, np.mean(entropies, axis=0), rtol=1e-4)
    assert 0 < min(entropy) <= max(entropy) < 1


@pytest.mark.slow
def test_a_network_with_global_attention_trains_loads_and_predicts(run, place):
    assert (run.predictions / "test.laz").is_file()
    metrics = json.loads(run.metrics.read_text())
    assert metrics["pooled"]["mean_iou"] > 0
    layer = load_model(run.model).get_layer("gqa_1_0")
    assert layer.attention.head_dim == 4


@pytest.mark.slow
def test_export_writes_scores_beside_the_statistics(run, place, tmp_path):
    pipeline.export(run, tmp_path / "out", OPTIONS, place / "test.laz")
    names = {path.name for path in (tmp_path / "out/attention/gqa_1_0").iterdir()}
    suffixes = (".npz", ".csv", "_heads.png", "_view.png")
    assert names == {f"field_{n}{suffix}" for n in range(4) for suffix in suffixes}
    statistics = json.loads((tmp_path / "out/statistics.json").read_text())
    assert len(statistics["attention"]["gqa_1_0"]["entropy"]) == 4
    for path in (tmp_path / "out").rglob("*"):
        if path.name == "Q.csv" or path.name == "statistics.json":
            path.unlink()
    with pytest.raises(SpecError, match=r"field_0\.npz: already exists.*--overwrite"):
        pipeline.export(run, tmp_path / "out", OPTIONS)


def test_unavailable_flash_attention_is_an_error_before_training(place, tmp_path):
    spec = read_spec(place / "spec.yaml", [*SETTINGS, "model.gqa.flash_attention=true"])
    with pytest.raises(SpecError, match=r"`model\.gqa\.flash_attention` needs JAX"):
        pipeline.train(spec, RunFolder(tmp_path / "run"), OPTIONS)
    assert not (tmp_path / "run").exists()
