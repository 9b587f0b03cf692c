"""Statistics of a network on a cloud, against loops over its points."""

import keras
import numpy as np
import pytest

from vl3d_lite.dataset.batches import batch_spec
from vl3d_lite.dataset.files import prepare_file
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.evaluation import kernel_statistics
from vl3d_lite.evaluation.rotations import with_symmetry
from vl3d_lite.kernels.page import read_statistics
from vl3d_lite.model.backend import prepare_backend
from vl3d_lite.model.network import build_network
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.system.writing import write_json

SETTINGS = [
    "model.downsampling=strided",
    "prediction.batch_size=2",
    "model.kpconvx.shell_points=[1, 5, 7]",
]


@pytest.fixture(scope="module")
def measured(place):
    """A network of random weights, three fields of a cloud, and statistics."""
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
    rng = np.random.default_rng(2)
    for variable in model.variables:
        if "moving" in variable.path or variable.name in ("phi", "psi", "beta"):
            variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    patch = pytest.MonkeyPatch()
    patch.setattr(kernel_statistics, "FIELDS", 3)
    batches = list(kernel_statistics._sample(cloud, spec, scaling))
    found = kernel_statistics.measure_kernels(model, cloud, spec, scaling)
    patch.undo()
    return spec, model, cloud, scaling, batches, found


def fields_of(batches):
    """Inputs and labels of each field that is not empty."""
    for inputs, labels in batches:
        for slot in range(len(labels)):
            if (inputs["neighbors_0"][slot] >= 0).any():
                yield (
                    {name: array[slot] for name, array in inputs.items()},
                    labels[slot],
                )


def coarse_classes(field, labels, n_classes):
    votes = np.zeros((len(field["xyz_1"]), n_classes))
    for row, label in enumerate(labels):
        if label >= 0 and field["up_0"][row, 0] >= 0:
            votes[field["up_0"][row, 0], label] += 1
    return [int(np.argmax(row)) if row.any() else -1 for row in votes]


def neighbor_counts_by_loops(batches, layer, support, neighbors, centers, n_classes):
    Q = np.asarray(layer.Q, np.float64)
    counts = np.zeros((n_classes + 1, len(Q)))
    for field, labels in fields_of(batches):
        known = labels if centers == 0 else coarse_classes(field, labels, n_classes)
        for center, row in enumerate(field[neighbors].astype(int)):
            for neighbor in row[row >= 0]:
                offset = field[f"xyz_{support}"][neighbor].astype(np.float64)
                offset = offset - field[f"xyz_{centers}"][center]
                nearest = np.argmin(((offset - Q) ** 2).sum(axis=1))
                counts[known[center], nearest] += 1
    return counts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "support", "neighbors", "centers"),
    [
        ("kpconvx_0_0", 0, "neighbors_0", 0),
        ("strided_1", 0, "down_0", 1),
        ("kpconvd_1_0", 1, "neighbors_1", 1),
    ],
)
def test_neighbor_shares_count_the_nearest_kernel_points(
    measured, name, support, neighbors, centers
):
    spec, model, _, _, batches, found = measured
    counts = neighbor_counts_by_loops(
        batches, model.get_layer(name), support, neighbors, centers, len(spec.classes)
    )
    entry = found["layers"][name]
    total = counts.sum()
    # float32 may choose the other of two kernel points at equal distances.
    np.testing.assert_allclose(
        entry["neighbor_share"], counts.sum(0) / total, atol=2e-3
    )
    seen = {n: c for n, c in zip(spec.class_names, counts, strict=False) if c.any()}
    assert set(entry["neighbor_share_by_class"]) == set(seen)
    assert len(seen) > 1
    for class_name, row in seen.items():
        np.testing.assert_allclose(
            entry["neighbor_share_by_class"][class_name], row / row.sum(), atol=4e-3
        )


def test_modulations_equal_the_formula(measured):
    _, model, _, _, batches, found = measured
    layer = model.get_layer("kpconvx_0_0")
    features = keras.Model(model.inputs, layer.input[1])
    weights = {
        name: np.asarray(getattr(layer, name), np.float64)[0]
        for name in ("Phi", "phi", "Psi", "psi")
    }
    norm = layer.bn_phi[0]
    gamma, beta, mean, variance = (
        np.asarray(v, np.float64)
        for v in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    values = [[] for _ in range(layer.mq)]
    for inputs, _ in batches:
        rows = np.asarray(features(inputs), np.float64)
        for slot, row in np.argwhere((inputs["neighbors_0"] >= 0).any(-1)):
            hidden = rows[slot, row] @ weights["Phi"] + weights["phi"]
            hidden = gamma * (hidden - mean) / np.sqrt(variance + 1e-5) + beta
            hidden = np.where(hidden > 0, hidden, 0.3 * hidden)
            logits = hidden @ weights["Psi"] + weights["psi"]
            for point, part in enumerate(np.split(1 / (1 + np.exp(-logits)), layer.mq)):
                values[point].extend(part)
    entry = found["layers"]["kpconvx_0_0"]
    np.testing.assert_allclose(
        entry["modulation_mean"], [np.mean(v) for v in values], rtol=1e-4
    )
    np.testing.assert_allclose(
        entry["modulation_std"], [np.std(v) for v in values], rtol=1e-3
    )
    assert "modulation_mean" not in found["layers"]["kpconvd_1_0"]


def test_entropy_equals_that_of_the_attention_weights(measured):
    _, model, _, _, batches, found = measured
    (name,) = found["attention"]
    layer = model.get_layer(name)
    inputs_of = keras.Model(model.inputs, layer.input)
    entropies = []
    for inputs, _ in batches:
        alpha = np.asarray(layer.attention_weights(inputs_of(inputs)), np.float64)
        for slot, row in np.ndindex(alpha.shape[:2]):
            present = inputs["neighbors_0"][slot, row] >= 0
            if present.sum() < 2:
                continue
            weights = alpha[slot, row, present]
            entropy = -sum(w * np.log(w) for w in weights)
            entropies.append(entropy / np.log(present.sum()))
    entropy = found["attention"][name]["entropy"]
    np.testing.assert_allclose(entropy, np.mean(entropies, axis=0), rtol=1e-4)
    assert 0 < min(entropy) <= max(entropy) <= 1


@pytest.mark.slow
def test_classes_are_predicted_for_a_cloud_without_labels(measured):
    spec, model, cloud, scaling, *_ = measured
    blank = type(cloud)(**{**vars(cloud), "labels": np.full(len(cloud.labels), -1)})
    found = kernel_statistics.measure_kernels(model, blank, spec, scaling)
    assert found["classes_from"] == "prediction"
    assert found["layers"]["kpconvx_0_0"]["neighbor_share_by_class"]
    # Class by class, every center is counted once.
    assert set(found["layers"]["strided_1"]["neighbor_share_by_class"]) <= set(
        spec.classes
    )


@pytest.mark.slow
def test_rotated_copies_count_as_fields(measured, monkeypatch):
    spec, model, cloud, scaling, _, _ = measured
    monkeypatch.setattr(kernel_statistics, "FIELDS", 1)
    plain = kernel_statistics.measure_kernels(model, cloud, spec, scaling)
    changed = spec.model.model_copy(update={"symmetry": "C2"})
    spec = spec.model_copy(update={"model": changed})
    twin = with_symmetry(model, spec, len(scaling.names), "C2")
    found = kernel_statistics.measure_kernels(twin, cloud, spec, scaling)
    assert found["fields"] == plain["fields"]
    sample = kernel_statistics._sample

    def rotated(*arguments):
        for inputs, labels in sample(*arguments):
            half = np.array([-1, -1, 1], "float32")
            names = [name for name in inputs if name.startswith("xyz_")]
            yield {**inputs, **{name: inputs[name] * half for name in names}}, labels

    monkeypatch.setattr(kernel_statistics, "_sample", rotated)
    spec = spec.model_copy(update={"model": measured[0].model})
    other = kernel_statistics.measure_kernels(model, cloud, spec, scaling)
    for name, entry in found["layers"].items():
        both = [np.array(x["layers"][name]["neighbor_share"]) for x in (plain, other)]
        np.testing.assert_allclose(
            entry["neighbor_share"], np.mean(both, axis=0), atol=1e-6
        )
        assert np.abs(both[0] - both[1]).max() > 1e-3


def test_the_kernel_page_reads_the_measured_statistics(measured, tmp_path):
    *_, found = measured
    write_json(tmp_path / "statistics.json", found)
    points = {name: 13 for name in found["layers"]}
    content = read_statistics(tmp_path, points)
    assert content["layers"] == found["layers"]
    assert found["fields"] == 3
    assert found["classes_from"] == "labels"
