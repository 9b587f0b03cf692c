"""Source weights of points: from dimensions, codes and flags."""

import numpy as np
import pytest
from pydantic import ValidationError

from tests.field_clouds import make_cloud, make_spec
from vl3d_lite.dataset.prepared import prepare_cloud
from vl3d_lite.dataset.source_weights import dimensions_to_read, point_weights
from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.blocks import SourceWeightsSpec


def weights_of(values, **spec):
    cloud = make_cloud(n=len(values))
    cloud.attributes["trust"] = np.asarray(values)
    return point_weights(cloud, SourceWeightsSpec(dimension="trust", **spec))


def spec_of(source):
    return make_spec(model={"source_weights": source, "gva": {"softmax": "envelope"}})


def test_a_dimension_is_the_weight():
    weights = weights_of(np.float64([0, 0.25, 3]))
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [0, 0.25, 3])


def test_values_that_mute_weigh_nothing_and_all_others_one():
    weights = weights_of(np.uint8([2, 7, 18, 0, 7]), zero_weight_values=[7, 18])
    np.testing.assert_array_equal(weights, [1, 0, 0, 1, 0])


def test_cells_take_the_mean_of_weights_and_not_the_weight_of_mean_codes():
    cloud = make_cloud()
    spec = spec_of({"dimension": "code", "zero_weight_values": [7, 18]})
    cloud.attributes["code"] = np.resize(np.uint8([7, 18, 2]), len(cloud.local))
    prepared = prepare_cloud(cloud, spec)
    cells = prepared.cell_of_point
    kept = np.bincount(cells, cloud.attributes["code"] == 2)
    expected = kept / prepared.point_counts
    np.testing.assert_allclose(prepared.source_weights, expected, atol=1e-6)


def test_a_cloud_without_weights_has_none():
    assert prepare_cloud(make_cloud(), make_spec()).source_weights is None


def test_reads_the_dimension_beside_those_of_features():
    assert dimensions_to_read(spec_of("trust")) == {
        "intensity": "features",
        "trust": "model.source_weights",
    }
    assert dimensions_to_read(spec_of("intensity")) == {"intensity": "features"}
    assert dimensions_to_read(make_spec()) == {"intensity": "features"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.5, -0.25, -1], r"not negative. Received: -0.25 at point 1, and 1 more"),
        ([0.5, 1, np.nan], r"finite and not negative. Received: nan at point 2"),
        ([np.inf, 1, 1], r"finite and not negative. Received: inf at point 0"),
        (np.ones((3, 2)), r"one number per point. Received: 2 numbers"),
    ],
    ids=str,
)
def test_refuses_values_that_are_no_weights(values, message):
    with pytest.raises(DataError, match=rf"town.laz: dimension `trust`.*{message}"):
        weights_of(values)


def test_values_that_are_no_weights_may_mute():
    np.testing.assert_array_equal(
        weights_of([-1.0, 0.5], zero_weight_values=[-1]), [0, 1]
    )


def test_refuses_a_cloud_without_the_dimension():
    with pytest.raises(DataError, match=r"`trust`.*is missing. The cloud has: intens"):
        prepare_cloud(make_cloud(), spec_of("trust"))


def test_warns_when_no_point_may_speak(caplog):
    weights_of(np.zeros(3))
    assert "every point the weight 0" in caplog.text
    caplog.clear()
    weights_of(np.float64([0, 0, 1e-3]))
    assert not caplog.text


@pytest.mark.parametrize("name", ["withheld", "classification"])
def test_refuses_codes_as_weights(name):
    with pytest.raises(
        ValidationError, match="holds codes, not weights; list the values"
    ):
        SourceWeightsSpec(dimension=name)
    assert SourceWeightsSpec(
        dimension=name, zero_weight_values=[1]
    ).zero_weight_values == [1]


def test_refuses_weights_that_nothing_would_use():
    with pytest.raises(ValidationError, match="has no effect: it applies to `gva`"):
        make_spec(model={"source_weights": "trust"})
