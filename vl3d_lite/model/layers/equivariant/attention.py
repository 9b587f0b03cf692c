"""Multi-head attention that commutes with a group."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.equivariant.groups import get_representation
from vl3d_lite.model.layers.equivariant.initializers import (
    check_scheme,
    tied_initializer,
)
from vl3d_lite.model.layers.equivariant.linear import check_width
from vl3d_lite.model.layers.equivariant.positions import LiftedOffsets
from vl3d_lite.model.layers.equivariant.spectral import from_spectrum, to_spectrum
from vl3d_lite.model.layers.equivariant.spectral_attention import SpectralAttention


@keras.saving.register_keras_serializable(package="vl3d_lite")
class EquivariantMultiHeadAttention(SpectralAttention):
    """Attend with heads that split the copies, never the group axis.

    With fields ``x`` of the queries and ``z`` of the tokens, equivariant linear
    maps ``Q, K, V, O`` and, for a head, its ``c`` copies::

        l_ij = <Q x_i, K z_j + U e_ij> / sqrt(c |G|)
        alpha_ij = softmax over the j that i may attend to
        y_i = O sum_j alpha_ij (V z_j + W e_ij)

    Inner products run over copies and group, so ``alpha`` is invariant and ``y``
    equivariant. ``e`` are `LiftedOffsets`; ``U`` and ``W`` mix their units into
    copies, in the same way for every element, and act outside the sum over
    ``j``. A query with nothing to attend to gets a zero context: ``y_i`` is the
    bias of O. Given `neighbors`, a query attends to these alone (local
    attention).

    Shapes: ``B`` fields, ``T`` queries, ``S`` tokens, ``D = multiplicity * |G|``,
    ``H`` heads, ``K`` neighbors.

    Args:
        in_rep: `RegularRepresentation` of queries, tokens and output, or
            ``(group, multiplicity)``.
        num_heads: ``H``; divides the multiplicity.
        dropout: Share of attention weights dropped in training, in [0, 1).
        bias: Whether the four maps have a bias.
        init_scheme: See `EquivariantLinear`.
        position_units: Units of the encoding of relative positions; 0 for none.
        position_scale: Length that offsets are divided by, in meters. Positive.
        seed: Seed of the dropout.

    Call arguments:
        query: ``(B, T, D)`` float.
        memory: ``(B, S, D)`` float; None for the queries themselves.
        attention_mask: ``(T, S)``, ``(B, T, S)`` or, without neighbors,
            ``(B, H, T, S)`` or PyTorch's ``(B H, T, S)``, bool, True = attend. The
            values of a token, NaN included, do not affect queries that it is
            hidden from.
        key_mask: ``(B, S)`` bool, True = present. The values of other tokens,
            NaN included, have no effect.
        query_positions: ``(B, T, n_x)`` float, in meters. Required with
            `position_units`, and only then.
        memory_positions: ``(B, S, n_x)`` float, in meters.
        query_position_mask: ``(B, T)`` bool, True where a position is valid; a
            pair with an invalid one has no ``e``.
        memory_position_mask: ``(B, S)`` bool.
        neighbors: ``(B, T, K)`` int, rows of the tokens; -1 where missing.
        training: Whether to drop attention weights.

    Returns:
        ``(B, T, D)`` float.

    Raises:
        DeepLearningException: An argument, a shape or the dtype of a mask is
            wrong, or positions are missing or unexpected.

    Source:
        Vaswani et al., *Attention Is All You Need* (2017). On stacked regular
        representations it is symm-learning's ``eMultiheadAttention``, whose
        positional backends are not equivariant. Relative positions act on keys
        and values as in Zhao et al., *Point Transformer* (2021).
    """

    def __init__(
        self,
        in_rep,
        num_heads,
        dropout=0.0,
        bias=True,
        init_scheme="xavier_uniform",
        position_units=0,
        position_scale=1.0,
        seed=None,
        **kwargs,
    ):
        # Coordinates stay float32 where the fields are half precision.
        super().__init__(**{"autocast": False, **kwargs})
        self.in_rep = get_representation(in_rep)
        self._check_arguments(num_heads, dropout, position_units, position_scale)
        check_scheme(self.name, init_scheme)
        self.num_heads = int(num_heads)
        self.dropout = float(dropout)
        self.use_bias = bool(bias)
        self.init_scheme = init_scheme
        self.position_units = int(position_units)
        self.position_scale = float(position_scale)
        self.seed = seed
        self.offsets = None
        if position_units:
            self.offsets = LiftedOffsets(
                self.group,
                position_units,
                position_scale,
                dtype=self.dtype_policy,
                name="offsets",
            )
        self.weight_dropout = (
            keras.layers.Dropout(dropout, seed=seed, autocast=False, name="dropout")
            if dropout
            else None
        )

    def _check_arguments(self, num_heads, dropout, position_units, position_scale):
        multiplicity = self.in_rep.multiplicity
        if num_heads < 1 or multiplicity % num_heads:
            raise DeepLearningException(
                f"{self.name}: `num_heads` must divide the multiplicity "
                f"{multiplicity} of `in_rep`. Received: num_heads={num_heads}"
            )
        if not 0 <= dropout < 1:
            raise DeepLearningException(
                f"{self.name}: `dropout` must be in [0, 1). Received: {dropout}"
            )
        if int(position_units) != position_units or position_units < 0:
            raise DeepLearningException(
                f"{self.name}: `position_units` must be a whole number of at least 0. "
                f"Received: {position_units}"
            )
        if not position_scale > 0:
            raise DeepLearningException(
                f"{self.name}: `position_scale` must be positive (meters). "
                f"Received: {position_scale}"
            )

    @property
    def group(self):
        return self.in_rep.group

    def build(
        self,
        query_shape,
        memory_shape=None,
        query_positions_shape=None,
        memory_positions_shape=None,
        neighbors_shape=None,
    ):
        check_width(self.name, "query", query_shape, self.in_rep.size)
        check_width(self.name, "memory", memory_shape or query_shape, self.in_rep.size)
        multiplicity, order = self.in_rep.multiplicity, self.group.order
        # Each of the four maps has the variance of its own dense matrix.
        initializer = tied_initializer(
            self.init_scheme, self.in_rep.size, self.in_rep.size
        )
        for name, count in (("in", 3), ("out", 1)):
            kernel = self.add_weight(
                name=f"{name}_kernel",
                shape=(count * multiplicity, multiplicity, order),
                initializer=initializer.clone(),
            )
            bias = None
            if self.use_bias:
                bias = self.add_weight(
                    name=f"{name}_bias",
                    shape=(count * multiplicity,),
                    initializer="zeros",
                )
            setattr(self, f"{name}_kernel", kernel)
            setattr(self, f"{name}_bias", bias)
        if self.offsets is not None:
            self._require_positions(query_positions_shape, "query_positions")
            memory_positions_shape = memory_positions_shape or query_positions_shape
            self.offsets.build(query_positions_shape, memory_positions_shape)
            for name in ("position_key_kernel", "position_value_kernel"):
                kernel = self.add_weight(
                    name=name,
                    shape=(self.position_units, multiplicity),
                    initializer="glorot_uniform",
                )
                setattr(self, name, kernel)

    def call(
        self,
        query,
        memory=None,
        attention_mask=None,
        key_mask=None,
        query_positions=None,
        memory_positions=None,
        query_position_mask=None,
        memory_position_mask=None,
        neighbors=None,
        training=False,
    ):
        check_width(self.name, "query", query.shape, self.in_rep.size)
        query = to_spectrum(ops.cast(query, self.compute_dtype), self.group)
        if memory is not None:
            check_width(self.name, "memory", memory.shape, self.in_rep.size)
            memory = to_spectrum(ops.cast(memory, self.compute_dtype), self.group)
        result = self.spectral(
            query,
            memory,
            attention_mask,
            key_mask,
            query_positions,
            memory_positions,
            query_position_mask,
            memory_position_mask,
            neighbors,
            training,
        )
        return from_spectrum(result, self.group)

    def compute_output_shape(self, query_shape, *_, **__):
        return tuple(query_shape)

    def get_config(self):
        return {
            **super().get_config(),
            "in_rep": self.in_rep.get_config(),
            "num_heads": self.num_heads,
            "dropout": self.dropout,
            "bias": self.use_bias,
            "init_scheme": self.init_scheme,
            "position_units": self.position_units,
            "position_scale": self.position_scale,
            "seed": self.seed,
        }
