"""The contract of every layer; see `tests.contracts.check_layer`."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import pytest

from tests.contracts import HALF, MODES, check_half, check_layer, check_modes, run
from vl3d_lite.model import layers
from vl3d_lite.model.ensemble import ProbabilityMean

FIELDS, POINTS, PADDED, NEIGHBORS, CHANNELS = 2, 9, 2, 4, 6
COARSE = 4
L2 = keras.regularizers.L2(1e-4)
SHELLS = {"shell_radii": [0, 0.7, 1.4], "shell_points": [1, 3, 5]}
KERNEL = {**SHELLS, "sigma": 1.1}


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def rows(targets, sources, count, seed=0):
    """Draw neighbor indices: some missing, below and above the sources."""
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, sources, (FIELDS, targets, count)).astype("int32")
    indices[..., 0] = np.arange(targets) % sources
    indices[:, 1, -1] = -1
    indices[0, 2, -1] = sources + 5
    return indices


def points(*extra):
    """Coordinates, features and neighbors of fields whose last points are padding."""
    neighbors = rows(POINTS, POINTS - PADDED, NEIGHBORS)
    neighbors[:, -PADDED:] = -1
    xyz = drawn(FIELDS, POINTS, 3)
    return [xyz, drawn(FIELDS, POINTS, CHANNELS, seed=1), neighbors, *extra]


def source_weights():
    return np.random.default_rng(2).uniform(0.2, 1, (FIELDS, POINTS)).astype("float32")


def strided_inputs():
    """KPConvX inputs whose centers are the first six points, with their geometry."""
    xyz, features, neighbors = points()
    geometry = layers.KernelGeometryLayer(1.1, **SHELLS)([xyz, neighbors])
    nearest, influence = (keras.ops.convert_to_numpy(part) for part in geometry)
    return [xyz, features, *(part[:, :6] for part in (neighbors, nearest, influence))]


def upsampling_inputs():
    fine, coarse = drawn(FIELDS, POINTS, 3), drawn(FIELDS, COARSE, 3, seed=1)
    fine[:, 0] = coarse[:, 0]
    features = drawn(FIELDS, COARSE, CHANNELS, seed=2)
    return [features, rows(POINTS, COARSE, 3), fine, coarse]


def masks():
    """Queries, values, keys and all masks of grouped-query attention."""
    attention = np.random.default_rng(3).random((FIELDS, 5, 7)) < 0.6
    attention[0, 1] = False
    return {
        "query": drawn(FIELDS, 5, CHANNELS),
        "value": drawn(FIELDS, 7, CHANNELS, seed=1),
        "key": drawn(FIELDS, 7, CHANNELS, seed=2),
        "query_mask": np.array([[1, 1, 0, 1, 1], [1, 1, 1, 1, 0]], bool),
        "value_mask": np.array([[0, 1, 1, 1, 0, 1, 0], [1] * 7], bool),
        "key_mask": np.array([[1, 1, 0, 1, 1, 1, 1], [1] * 3 + [0] * 4], bool),
        "attention_mask": attention,
    }


def decoder_inputs():
    return {"tgt": drawn(FIELDS, 4, 12), "memory": drawn(FIELDS, 5, 12, seed=1)}


def torf_inputs():
    alpha = np.random.default_rng(3).random((4, 5, 3), dtype="float32")
    return [alpha, drawn(4, 5, 3, 2), drawn(4, 5, 3, 2, seed=1)]


@dataclass(frozen=True)
class Case:
    """A layer, and how it is checked.

    Attributes:
        make: Makes a fresh layer.
        inputs: Makes its inputs; see `tests.contracts`.
        options: Further arguments of `check_layer`.
        variant: Whether the layer has a first case elsewhere.
    """

    make: Callable[[], keras.layers.Layer]
    inputs: Callable[[], Any]
    options: dict = field(default_factory=dict)
    variant: bool = False


# Attention sums many products: modes differ by more than one rounding.
LOOSE = {"relative": 2e-5}
RANDOM = {**LOOSE, "random": True}

CASES = {
    "CoarseNeighbors": Case(
        layers.CoarseNeighbors,
        lambda: [rows(POINTS, COARSE, 2), rows(COARSE, COARSE, 3)],
    ),
    "EnvelopeGatedAttention": Case(
        lambda: layers.EnvelopeGatedAttention(2.5, heads=2, kernel_regularizer=L2),
        lambda: points(source_weights()),
        LOOSE,
    ),
    "EnvelopeGatedAttention without source weights": Case(
        lambda: layers.EnvelopeGatedAttention(2.5, heads=2), points, LOOSE, variant=True
    ),
    "EquivariantLayerNorm": Case(
        lambda: layers.EquivariantLayerNorm(("D3", 2)), lambda: (drawn(2, 4, 12),)
    ),
    "EquivariantLinear": Case(
        lambda: layers.EquivariantLinear(("D3", 2), 3), lambda: (drawn(2, 4, 12),)
    ),
    "EquivariantLinear, dense": Case(
        lambda: layers.EquivariantLinear(("D3", 2), 3, evaluation="dense"),
        lambda: (drawn(2, 4, 12),),
        variant=True,
    ),
    "EquivariantMultiHeadAttention": Case(
        lambda: layers.EquivariantMultiHeadAttention(("C4", 2), 2, position_units=3),
        lambda: {
            "query": drawn(2, 4, 8),
            "memory": drawn(2, 5, 8, seed=1),
            "query_positions": drawn(2, 4, 3, seed=2),
            "memory_positions": drawn(2, 5, 3, seed=3),
            "neighbors": rows(4, 5, 3),
        },
        LOOSE,
    ),
    "EquivariantRMSNorm": Case(
        lambda: layers.EquivariantRMSNorm(("D3", 2)), lambda: (drawn(2, 4, 12),)
    ),
    "EquivariantTransformerDecoderLayer": Case(
        lambda: layers.EquivariantTransformerDecoderLayer(
            ("D3", 2), num_heads=2, dim_feedforward=20, dropout=0.0
        ),
        decoder_inputs,
        LOOSE,
    ),
    "FieldAttentionLayer": Case(
        lambda: layers.FieldAttentionLayer(
            layers.GroupedQueryAttentionLayer(4, 2, 1), scale=3.0
        ),
        points,
        LOOSE,
    ),
    "GroupedQueryAttentionLayer": Case(
        lambda: layers.GroupedQueryAttentionLayer(4, 4, 2, kernel_regularizer=L2),
        masks,
        LOOSE,
    ),
    "GroupedQueryAttentionLayer without masks": Case(
        lambda: layers.GroupedQueryAttentionLayer(4, 4, 2),
        lambda: (drawn(FIELDS, 5, CHANNELS), drawn(FIELDS, 7, CHANNELS, seed=1)),
        LOOSE,
        variant=True,
    ),
    "GroupedVectorAttentionLayer": Case(
        lambda: layers.GroupedVectorAttentionLayer(
            groups=2, momentum=0.8, kernel_regularizer=L2
        ),
        points,
        LOOSE,
    ),
    "GroupedVectorAttentionLayer with all options": Case(
        lambda: layers.GroupedVectorAttentionLayer(
            channels=4, groups=2, weights="channels", positional_multiplier=True
        ),
        points,
        LOOSE,
        variant=True,
    ),
    "GroupedVectorAttentionLayer, envelope": Case(
        lambda: layers.GroupedVectorAttentionLayer(
            groups=2, softmax="envelope", radius=2.5
        ),
        lambda: points(source_weights()),
        LOOSE,
        variant=True,
    ),
    "GroupedVectorAttentionLayer with dropout": Case(
        lambda: layers.GroupedVectorAttentionLayer(
            groups=2, dropout=0.3, seed=7, positional_bias=False, scale=0.7
        ),
        points,
        RANDOM,
        variant=True,
    ),
    "InvariantPooling": Case(
        lambda: layers.InvariantPooling(("C4", 1), 2), lambda: (drawn(4, 5, 4),)
    ),
    "KPConvXLayer": Case(
        lambda: layers.KPConvXLayer(**KERNEL, DH=16, groups=2), points
    ),
    "KPConvXLayer, apple": Case(
        lambda: layers.KPConvXLayer(
            # One group of 6 channels has 6 modulations per kernel point to normalize.
            **KERNEL,
            DH=16,
            groups=1,
            blocks=2,
            order="apple",
            modulation_norm=True,
        ),
        points,
        variant=True,
    ),
    "KPConvXLayer, deformable": Case(
        lambda: layers.KPConvXLayer(
            **KERNEL,
            DH=16,
            groups=2,
            deformable=True,
            drop_path=0.5,
            output_channels=12,
        ),
        points,
        {"random": True},
        variant=True,
    ),
    "KPConvXLayer without attention": Case(
        lambda: layers.KPConvXLayer(
            **KERNEL,
            DH=16,
            attention=False,
            groups=2,
            activation="gelu",
            initializer="he_normal",
        ),
        points,
        variant=True,
    ),
    "KPConvXLayer, strided": Case(
        lambda: layers.KPConvXLayer(**KERNEL, DH=16, groups=2, strided=True),
        strided_inputs,
        variant=True,
    ),
    "KernelGeometryLayer": Case(
        lambda: layers.KernelGeometryLayer(1.0, **SHELLS), lambda: points()[::2]
    ),
    "LiftedOffsets": Case(
        lambda: layers.LiftedOffsets("D3", 4, scale=2.0),
        lambda: (drawn(2, 4, 3), drawn(2, 5, 3, seed=1), rows(4, 5, 3)),
    ),
    "LiftedOffsets of all pairs": Case(
        lambda: layers.LiftedOffsets("C4", 3, activation="tanh"),
        lambda: (drawn(2, 4, 2), drawn(2, 5, 2, seed=1)),
        variant=True,
    ),
    "NeighborMaxPool": Case(
        layers.NeighborMaxPool,
        lambda: [drawn(FIELDS, POINTS, CHANNELS), rows(COARSE, POINTS, 3)],
    ),
    "NeighborMeanPool": Case(
        layers.NeighborMeanPool,
        lambda: [drawn(FIELDS, POINTS, CHANNELS), rows(COARSE, POINTS, 3)],
    ),
    "NeighborUpsample": Case(layers.NeighborUpsample, upsampling_inputs),
    "NeighborUpsample from the nearest": Case(
        layers.NeighborUpsample,
        lambda: [drawn(FIELDS, COARSE, CHANNELS), rows(POINTS, COARSE, 1)],
        variant=True,
    ),
    "PooledCopies": Case(lambda: layers.PooledCopies("C4"), lambda: (drawn(4, 5, 4),)),
    "ProbabilityMean": Case(
        ProbabilityMean, lambda: [drawn(2, 5, 3), drawn(2, 5, 3, seed=1)]
    ),
    "RealPoints": Case(layers.RealPoints, lambda: (points()[2],)),
    "RegularLift": Case(
        lambda: layers.RegularLift("C4", 2),
        lambda: (drawn(2, 5, 3), drawn(2, 5, 2, 3, seed=1)),
    ),
    "RegularLift of scalars": Case(
        lambda: layers.RegularLift("C4", 2), lambda: (drawn(4, 5, 3),), variant=True
    ),
    "RepeatedCopies": Case(
        lambda: layers.RepeatedCopies("C4"), lambda: (drawn(4, 5, 3),)
    ),
    "StackedCopies": Case(
        lambda: layers.StackedCopies("C4"), lambda: (drawn(4, 5, 3),)
    ),
    "TORFGVALayer": Case(layers.TORFGVALayer, torf_inputs),
    "RotatedCopies": Case(
        lambda: layers.RotatedCopies("C4"), lambda: (drawn(4, 5, 3),)
    ),
    "UnaryBlock": Case(
        lambda: layers.UnaryBlock(
            6,
            negative_slope=0.2,
            momentum=0.8,
            kernel_initializer="he_normal",
            kernel_regularizer=L2,
        ),
        lambda: points()[1:],
    ),
    "UnaryBlock with layer normalization": Case(
        lambda: layers.UnaryBlock(6, normalization="layer"),
        lambda: points()[1:],
        variant=True,
    ),
    "UnaryBlock without normalization": Case(
        lambda: layers.UnaryBlock(6, normalization="none"),
        lambda: points()[1:],
        variant=True,
    ),
}


QUICK = {name: case for name, case in CASES.items() if not case.variant}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_layers_keep_the_contract(case, tmp_path):
    layer, inputs = case.make(), case.inputs()
    if case.variant:  # it differs in a branch or two
        options = {"modes": (MODES[0], MODES[-1]), "half": HALF[:1]}
        check_layer(layer, inputs, tmp_path, **case.options, **options)
    else:  # the quick test checks the rest
        run(layer, inputs)
        check_modes(layer, inputs, **case.options)
        check_half(layer, inputs)


@pytest.mark.parametrize("case", QUICK.values(), ids=QUICK)
def test_layers_keep_the_contract_in_the_quick_tests(case, tmp_path):
    # On JAX they are all that `.ci/run` runs, and eager slopes take minutes.
    modes = MODES[1:] if keras.backend.backend() == "jax" else MODES[:1]
    options = {**case.options, "half": (), "modes": modes}
    check_layer(case.make(), case.inputs(), tmp_path, **options)


def test_every_layer_is_checked():
    exported = {
        value
        for name in layers.__all__
        if isinstance(value := getattr(layers, name), type)
        and issubclass(value, keras.layers.Layer)
    }
    checked = {type(case.make()) for case in QUICK.values()}
    assert checked == exported | {ProbabilityMean}
