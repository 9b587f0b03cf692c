"""Envelope-gated softmax: formula, limits, invalid values, continuity."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.contracts import MODES, gradients, numpy_of, run, slow_but
from tests.oracles_envelope import envelope_by_formula, gated_softmax_by_loops
from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import (
    cutoff_envelope,
    envelope_gated_softmax,
    segment_envelope_gated_softmax,
)

NODES, NEIGHBORS, FOCI, HEADS = 7, 5, 2, 3
EPS = 1e-7
EXACT = {"float32": 1e-6, "float64": 1e-12}
KINDS = ["float32"] + ["float64"] * (keras.backend.backend() != "jax")
DOUBLE = KINDS[-1]
# With these, an edge with logit 300 beside one of -300 is a matter of 1e-260.
GARBAGE = [np.nan, np.inf, -np.inf, 1e30]


class Softmax(keras.layers.Layer):
    """The segment form as a layer, so that `gradients` can differentiate it."""

    def call(self, logits, edge_env, z_bias_raw, src_weight, edge_mask):
        return segment_envelope_gated_softmax(
            logits, edge_env, NODES, z_bias_raw, EPS, src_weight, edge_mask
        )

    def compute_output_shape(self, logits, *_):
        return logits


@pytest.fixture
def edges():
    """Logits, envelope, bias, source weights and mask; nodes 0 to 2 are extreme:
    large logits, very small ones, and none valid."""
    rng = np.random.default_rng(0)
    count = NODES * NEIGHBORS
    logits = 3 * rng.normal(size=(count, FOCI, HEADS))
    logits[:NEIGHBORS] *= 100
    logits[NEIGHBORS : 2 * NEIGHBORS] = -300 + rng.normal(size=(NEIGHBORS, FOCI, HEADS))
    envelope = rng.uniform(0, 1, count) ** 3
    envelope[rng.random(count) < 0.2] = 0
    source = rng.uniform(0, 2, count)
    source[rng.random(count) < 0.2] = 0
    mask = rng.random(count) < 0.8
    mask[2 * NEIGHBORS : 3 * NEIGHBORS] = False
    bias = 2 * rng.normal(size=(FOCI, HEADS))
    return [logits, envelope, bias, source, mask]


def cast(edges, kind):
    return [
        value if value.dtype == bool else value.astype(kind)
        for value in map(np.asarray, edges)
    ]


def expected_of(edges):
    logits, envelope, bias, source, mask = cast(edges, "longdouble")
    by_node = (NODES, NEIGHBORS)
    return gated_softmax_by_loops(
        logits.reshape(*by_node, FOCI * HEADS),
        envelope.reshape(by_node),
        bias.ravel(),
        EPS,
        source.reshape(by_node),
        mask.reshape(by_node),
    ).reshape(logits.shape)


def softmax_of(edges, mode="eager", kind="float32"):
    return run(Softmax(dtype=kind), tuple(cast(edges, kind)), mode=mode)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
def test_matches_the_formula(edges, kind, mode):
    alpha = softmax_of(edges, mode, kind)
    assert alpha.dtype == kind
    expected = expected_of(cast(edges, kind))
    assert expected.max() > 0.9
    np.testing.assert_allclose(
        alpha, expected.astype("float64"), rtol=0, atol=EXACT[kind]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_small_weights_are_right_to_their_last_digits(edges, kind):
    edges[0] /= 20  # so that none is below what float32 can hold
    expected = expected_of(cast(edges, kind)).astype("float64")
    alpha = softmax_of(edges, kind=kind)
    np.testing.assert_array_equal(alpha == 0, expected == 0)
    np.testing.assert_allclose(alpha, expected, rtol=30 * EXACT[kind])


def test_what_is_not_there_gets_exactly_zero(edges):
    _, envelope, _, source, mask = edges
    gone = ~mask | (envelope == 0) | (source == 0)
    assert 5 < gone.sum() < len(gone) - 5
    alpha = softmax_of(edges)
    np.testing.assert_array_equal(alpha[gone], 0)
    np.testing.assert_array_equal(alpha[2 * NEIGHBORS : 3 * NEIGHBORS], 0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
def test_large_logits_have_finite_values_and_slopes(edges, sign, mode):
    rng = np.random.default_rng(1)
    edges[0] = sign * 300.0 + rng.normal(size=edges[0].shape)
    # A node whose slots are all taken: the null mass alone is e^300 times larger.
    edges[1][-NEIGHBORS:], edges[3][-NEIGHBORS:] = 0.5, 1
    edges[4][-NEIGHBORS:] = True
    inputs = tuple(cast(edges, "float32"))
    alpha, _, slopes = gradients(Softmax(), inputs, mode=mode)
    expected = expected_of(inputs).astype("float64")
    np.testing.assert_allclose(alpha, expected, rtol=0, atol=EXACT["float32"])
    for slope in slopes[:4]:
        assert np.isfinite(slope).all()


@pytest.mark.parametrize("kind", KINDS)
def test_large_logits_are_as_exact_as_small_ones(edges, kind):
    """Sums of logits of 300 with the logarithms of small weights are off by 1e-5."""
    rng = np.random.default_rng(2)
    edges[0] = 300 + rng.normal(size=edges[0].shape)
    edges[1], edges[3] = rng.uniform(0.3, 1, (2, NODES * NEIGHBORS))
    edges[4][:] = True
    expected = expected_of(cast(edges, kind)).astype("float64")
    np.testing.assert_allclose(
        softmax_of(edges, kind=kind), expected, rtol=0, atol=EXACT[kind]
    )


@pytest.mark.slow
@pytest.mark.parametrize("mode", slow_but(MODES, "eager"))
@pytest.mark.parametrize("garbage", GARBAGE, ids=str)
def test_garbage_where_nothing_is_changes_neither_values_nor_slopes(
    edges, garbage, mode
):
    gone = ~edges[4]
    dirty = [value.copy() for value in edges]
    dirty[0][gone], dirty[1][gone], dirty[3][gone] = garbage, garbage, garbage
    without_weight = edges[4] & ((edges[1] == 0) | (edges[3] == 0))
    assert without_weight.any()
    dirty[0][without_weight] = garbage
    clean, dirty = tuple(cast(edges, "float32")), tuple(cast(dirty, "float32"))
    expected = gradients(Softmax(), clean, mode=mode)
    received = gradients(Softmax(), dirty, mode=mode)
    np.testing.assert_array_equal(received[0], expected[0])
    for slope, other in zip(expected[2][:4], received[2][:4], strict=True):
        assert np.isfinite(other).all()
        np.testing.assert_array_equal(other, slope)
    np.testing.assert_array_equal(received[2][0][gone | without_weight], 0)


@pytest.mark.parametrize("garbage", GARBAGE, ids=str)
def test_nothing_at_all_gives_exactly_zero_and_zero_slopes(edges, garbage):
    edges[4][:] = False
    for place in (0, 1, 3):
        edges[place][:] = garbage
    alpha, _, slopes = gradients(Softmax(), tuple(cast(edges, "float32")))
    np.testing.assert_array_equal(alpha, 0)
    for slope in slopes[:4]:
        np.testing.assert_array_equal(slope, 0)


def test_not_a_number_where_something_is_shows(edges):
    there = np.flatnonzero(edges[4] & (edges[1] > 0) & (edges[3] > 0))[-1]
    for place in (0, 1, 3):
        dirty = [value.copy() for value in edges]
        dirty[place][there] = np.nan
        assert np.isnan(softmax_of(dirty)[there]).all()


def test_a_source_of_weight_zero_equals_a_removed_source(edges):
    edges[3] = np.abs(edges[3]) + 0.1
    zeroed = np.arange(NODES * NEIGHBORS) % NEIGHBORS == 1
    one, other = [value.copy() for value in edges], [value.copy() for value in edges]
    one[3][zeroed] = 0
    other[4][zeroed] = False
    np.testing.assert_array_equal(softmax_of(one), softmax_of(other))
    assert np.abs(softmax_of(one) - softmax_of(edges)).max() > 0.1


def test_no_weights_and_no_mask_are_ones(edges):
    logits, envelope, bias, _, _ = cast(edges, "float32")
    ones = np.ones(len(envelope), "float32")
    bare = segment_envelope_gated_softmax(logits, envelope, NODES, bias, EPS)
    full = softmax_of([logits, envelope, bias, ones, ones > 0])
    np.testing.assert_array_equal(numpy_of(bare), full)


def test_columns_and_rows_of_edges_are_the_same(edges):
    logits, *columns = cast(edges, "float32")
    envelope, bias, source, mask = columns
    alpha = segment_envelope_gated_softmax(
        logits, envelope[:, None], NODES, bias, EPS, source[:, None], mask[:, None]
    )
    np.testing.assert_array_equal(numpy_of(alpha), softmax_of(edges))


def test_masks_may_be_numbers(edges):
    logits, envelope, bias, source, mask = cast(edges, "float32")
    for kind in ("float32", "int32"):
        alpha = segment_envelope_gated_softmax(
            logits, envelope, NODES, bias, EPS, source, mask.astype(kind)
        )
        np.testing.assert_array_equal(numpy_of(alpha), softmax_of(edges))


def test_the_dense_form_is_that_of_segments(edges):
    logits, envelope, bias, source, mask = cast(edges, "float32")
    shape = (1, NODES, NEIGHBORS)
    alpha = envelope_gated_softmax(
        logits.reshape(*shape, FOCI, HEADS),
        envelope.reshape(shape),
        bias,
        EPS,
        source.reshape(shape),
        mask.reshape(shape),
    )
    np.testing.assert_array_equal(
        numpy_of(alpha).reshape(logits.shape), softmax_of(edges)
    )


def test_weights_sum_to_less_than_one_by_the_null_mass():
    logits = np.zeros((1, 4, 1), "float32")
    envelope = np.ones((1, 4), "float32")
    bias = np.float32([np.log(np.e - 1)])  # softplus gives 1
    alpha = numpy_of(envelope_gated_softmax(logits, envelope, bias))
    np.testing.assert_allclose(alpha, 0.2, rtol=1e-6)


def test_eps_belongs_to_the_null_mass():
    logits = np.zeros((1, 1, 1), "float32")
    bias = np.float32([-1000])
    alpha = envelope_gated_softmax(logits, np.ones((1, 1), "float32"), bias, eps=3.0)
    np.testing.assert_allclose(numpy_of(alpha), 0.25, rtol=1e-6)


def test_without_any_null_mass_it_is_the_plain_softmax():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(2, 6, 3)).astype("float32")
    ones = np.ones((2, 6), "float32")
    alpha = envelope_gated_softmax(logits, ones, np.float32([-1e4] * 3), eps=0.0)
    expected = numpy_of(ops.softmax(logits, axis=1))
    np.testing.assert_allclose(numpy_of(alpha), expected, rtol=1e-5)
    none = envelope_gated_softmax(logits, 0 * ones, np.float32([-1e4] * 3), eps=0.0)
    np.testing.assert_array_equal(numpy_of(none), 0)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_computes_in_single(edges, kind):
    edges[1] = np.maximum(edges[1], 1e-3)  # squared, too small for float16
    halves = [ops.cast(value, kind) for value in cast(edges, "float32")[:2]]
    logits, envelope = halves
    _, _, bias, source, mask = cast(edges, "float32")
    alpha = segment_envelope_gated_softmax(
        logits, envelope, NODES, bias, EPS, source, mask
    )
    assert keras.backend.standardize_dtype(alpha.dtype) == kind
    singles = [numpy_of(ops.cast(value, "float32")) for value in halves]
    expected = softmax_of([*singles, bias, source, mask])
    rounded = numpy_of(ops.cast(ops.cast(expected, kind), "float32"))
    np.testing.assert_array_equal(numpy_of(ops.cast(alpha, "float32")), rounded)


def test_slopes_match_finite_differences(edges):
    inputs = cast(edges, DOUBLE)
    rng = np.random.default_rng(4)
    cotangent = rng.normal(size=inputs[0].shape)
    _, _, slopes = gradients(
        Softmax(dtype=DOUBLE), tuple(inputs), cotangents=[cotangent]
    )
    tolerance = 1e-6 if DOUBLE == "float64" else 1e-2
    for place in (0, 1, 2, 3):
        direction = rng.normal(size=inputs[place].shape) * (inputs[place] != 0)
        step = 1e-6 * np.minimum(1, np.abs(inputs[place]))
        ahead, behind = list(inputs), list(inputs)
        ahead[place] = inputs[place].astype("longdouble") + step * direction
        behind[place] = inputs[place].astype("longdouble") - step * direction
        difference = expected_of(ahead) - expected_of(behind)
        expected = float((difference * cotangent).sum() / 2e-6)
        direction = direction * np.minimum(1, np.abs(inputs[place]))
        received = float((slopes[place].astype("float64") * direction).sum())
        assert received == pytest.approx(expected, rel=tolerance, abs=tolerance)


@pytest.mark.parametrize("logit", [0.0, 30.0, 300.0, -30.0])
def test_others_do_not_jump_when_a_neighbor_leaves(logit):
    """In its first version, eps is relative to the largest logit, and the neighbor
    that stays jumps from 0 to 0.2 the moment that one of 30 has left."""
    inside = np.nextafter(np.float32(1), np.float32(0))
    distances = np.append(np.linspace(0.5, inside, 400), [1.0, 1.5]).astype("float32")
    fading = numpy_of(cutoff_envelope(distances, 1.0))
    assert fading[399] > 0
    envelope = np.stack([np.full_like(fading, 0.5), fading], axis=1)
    logits = np.full((len(fading), 2, 1), logit, "float32")
    logits[:, 0] = -10
    alpha = numpy_of(envelope_gated_softmax(logits, envelope, np.float32([-10.0])))
    stays, leaves = alpha[..., 0].T
    np.testing.assert_array_equal(leaves[400:], 0)
    expected = 0.25 / (1.25 + np.exp(10) * EPS)
    np.testing.assert_allclose(stays[400:], expected, rtol=1e-4)
    assert (np.diff(stays) >= -1e-7).all()
    assert (np.diff(leaves) <= 1e-7).all()
    if logit < 100:  # the weight of the last float32 distance times e^300 is large
        np.testing.assert_allclose(alpha[399], alpha[400], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_envelope_matches_its_formula(kind):
    distances = np.linspace(0, 3.5, 2001).astype(kind)
    envelope = numpy_of(cutoff_envelope(distances, 2.5))
    assert envelope.dtype == kind
    expected = [float(envelope_by_formula(r, 2.5)) for r in distances]
    np.testing.assert_allclose(envelope, expected, rtol=0, atol=2 * np.finfo(kind).eps)
    assert envelope[0] == 1
    assert envelope.min() == 0
    np.testing.assert_array_equal(envelope[distances >= 2.5], 0)
    assert (envelope[distances < 2.499] > 0).all()
    assert (np.diff(envelope) <= np.finfo(kind).eps).all()


@pytest.mark.skipif(DOUBLE == "float32", reason="third differences need float64")
def test_three_derivatives_are_continuous_at_the_cutoff_and_the_fourth_is_not():
    step = 1e-3
    distances = 1 + step * np.arange(-8, 9)
    values = numpy_of(cutoff_envelope(distances, 1.0))
    # E = 70 u^4 + ... near the cutoff: derivatives of 280 u^3, 840 u^2, 1680 u, 1680.
    for order, size in ((1, 280), (2, 840), (3, 1680)):
        slopes = np.diff(values, order) / step**order
        jumps = np.abs(np.diff(slopes))
        assert jumps.max() < 1.2 * size * (8 * step) ** (4 - order)
        assert abs(slopes[-1]) < 1e-6
    fourth = np.diff(values, 4) / step**4
    assert np.abs(np.diff(fourth)).max() > 100


@pytest.mark.parametrize("rcut", [0, -1.0, float("nan"), float("inf")])
def test_refuses_a_cutoff_that_is_none(rcut):
    with pytest.raises(ValueError, match="`rcut` must be positive"):
        cutoff_envelope(np.float32([1.0]), rcut)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_nodes": 0}, "`n_nodes` must be a positive whole number"),
        ({"n_nodes": -2}, "`n_nodes` must be a positive whole number"),
        ({"n_nodes": 2.5}, "`n_nodes` must be a positive whole number"),
        ({"n_nodes": True}, "`n_nodes` must be a positive whole number"),
        ({"n_nodes": 3}, "35 edges of `logits` must be a multiple of `n_nodes`"),
        ({"eps": -1e-9}, "`eps` must be finite and not negative"),
        ({"eps": float("nan")}, "`eps` must be finite and not negative"),
        ({"edge_env": np.ones(34, "float32")}, "`edge_env` must have shape"),
        ({"src_weight": np.ones((35, 2), "float32")}, "`src_weight` must have shape"),
        ({"edge_mask": np.ones((7, 5), bool)}, "`edge_mask` must have shape"),
        ({"z_bias_raw": np.ones((3, 2), "float32")}, r"`z_bias_raw` \(F, H\)"),
        ({"logits": np.ones((35, 6), "float32")}, r"expected `logits` \(E, F, H\)"),
    ],
    ids=str,
)
def test_refuses_what_does_not_fit(edges, changes, message):
    logits, envelope, bias, source, mask = cast(edges, "float32")
    arguments = {
        "logits": logits,
        "edge_env": envelope,
        "n_nodes": NODES,
        "z_bias_raw": bias,
        "eps": EPS,
        "src_weight": source,
        "edge_mask": mask,
        **changes,
    }
    with pytest.raises(ValueError, match=message):
        segment_envelope_gated_softmax(**arguments)


def test_the_dense_form_refuses_ranks_that_do_not_fit():
    logits, envelope = np.ones((2, 3, 4), "float32"), np.ones((2, 3), "float32")
    with pytest.raises(DeepLearningException, match=r"expected logits \(\*L, K, \*H\)"):
        envelope_gated_softmax(logits, envelope, np.ones((), "float32"))


def test_no_edges_give_no_weights():
    alpha = segment_envelope_gated_softmax(
        np.ones((0, FOCI, HEADS), "float32"),
        np.ones((0, 1), "float32"),
        4,
        np.ones((FOCI, HEADS), "float32"),
        EPS,
    )
    assert tuple(alpha.shape) == (0, FOCI, HEADS)
