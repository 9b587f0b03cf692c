"""A transformer decoder layer that commutes with a group."""

import math

import keras

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.equivariant.checking import EquivarianceCheck
from vl3d_lite.model.layers.equivariant.decoder_blocks import (
    DecoderBlocks,
    call_context,
)
from vl3d_lite.model.layers.equivariant.groups import get_representation
from vl3d_lite.model.layers.equivariant.linear import EquivariantLinear, check_width
from vl3d_lite.model.layers.equivariant.masks import combine, with_causal_mask
from vl3d_lite.model.layers.equivariant.norm import (
    EquivariantLayerNorm,
    EquivariantRMSNorm,
)
from vl3d_lite.model.layers.equivariant.spectral import from_spectrum

NORMS = {"rmsnorm": EquivariantRMSNorm, "layernorm": EquivariantLayerNorm}


@keras.saving.register_keras_serializable(package="vl3d_lite")
class EquivariantTransformerDecoderLayer(DecoderBlocks, EquivarianceCheck):
    """Apply self-attention, attention to a memory, and a feed-forward network::

        x = x + drop(self_attn(norm_1(x)))                 (norm_first)
        x = x + drop(multihead_attn(norm_2(x), memory))
        x = x + drop(W_2 drop(act(W_1 norm_3(x))))

    and with ``norm_first=False`` each norm after its sum. Every part commutes
    with the group, so ``f(rho(g) tgt, rho(g) memory) = rho(g) f(tgt, memory)``
    where positions rotate too. Dropout shares its mask over the group axis. All
    but the activation runs in the group-Fourier basis.

    A given attention is called as ``attention(query, memory, ...)`` and returns
    ``(B, T, D)``; of `attention_mask`, `key_mask`, `query_positions`,
    `memory_positions`, `query_position_mask`, `memory_position_mask`,
    `neighbors` and `training` it receives those that are given, as
    `EquivariantMultiHeadAttention` does.

    Shapes: ``B`` fields, ``T`` queries, ``S`` tokens, ``D = multiplicity * |G|``,
    copy-major, ``K`` neighbors.

    Args:
        in_rep: `RegularRepresentation` of queries, memory and output, or
            ``(group, multiplicity)``.
        self_attn: "full" (over all queries), "local" (over `tgt_neighbors`),
            "none", or a layer that is called as above.
        multihead_attn: The same for the memory; "local" over
            `memory_neighbors`.
        dim_feedforward: Hidden channels, rounded up to a multiple of ``|G|``.
            Positive.
        dropout: Share dropped in training, attention weights of built
            attention included, in [0, 1).
        activation: Name or function, applied to each entry.
        layer_norm_eps: Epsilon of the norms. Positive.
        norm_first: Whether norms come first.
        norm_module: "rmsnorm" or "layernorm".
        bias: Whether linear maps (and the layer norm) have a bias.
        init_scheme: See `EquivariantLinear`.
        num_heads: Heads of built attention; divides the multiplicity.
        position_units: Units of the encoding of relative positions in built
            attention; 0 for none.
        position_scale: Length that offsets are divided by in built attention, in
            meters. Positive.
        seed: Seed of the dropout.

    Call arguments:
        tgt: ``(B, T, D)`` float.
        memory: ``(B, S, D)`` float, of the same representation.
        tgt_mask: ``(T, T)``, ``(B, T, T)`` or, where attention is to all tokens,
            PyTorch's ``(B H, T, T)``, bool, **True = attend** (PyTorch and
            symm-learning mask by True). Float masks are an error. The values of a
            token, NaN included, do not affect queries it is hidden from.
        memory_mask: ``(T, S)``, ``(B, T, S)`` or ``(B H, T, S)`` bool, True =
            attend.
        tgt_key_padding_mask: ``(B, T)`` bool, True = present. Other rows of `tgt`
            are set to zero before anything else, the residual included.
        memory_key_padding_mask: ``(B, S)`` bool, True = present. The values of
            other tokens, NaN included, have no effect.
        tgt_is_causal: Whether query ``i`` attends to ``j <= i`` only. It is
            applied with or without `tgt_mask`.
        memory_is_causal: The same for the memory.
        tgt_positions: ``(B, T, n_x)`` float, in meters; ``n_x`` 2 or 3. The
            origin should be near, such as the field's center: positions become
            float32.
        memory_positions: ``(B, S, n_x)`` float, in meters.
        tgt_position_mask: ``(B, T)`` bool, True where a position is valid.
        memory_position_mask: ``(B, S)`` bool.
        tgt_neighbors: ``(B, T, K)`` int, rows of `tgt`; -1 where missing.
        memory_neighbors: ``(B, T, K)`` int, rows of `memory`.
        training: Whether to drop.

    Returns:
        ``(B, T, D)`` float.

    Raises:
        DeepLearningException: An argument, a width or the dtype of a mask is
            wrong.

    Source:
        symm-learning's ``eTransformerDecoderLayer``, after
        ``torch.nn.TransformerDecoderLayer``; its outputs are reproduced. We
        differ in the polarity of masks, and in dropout, positions, causal hints
        and the layer norm, which are not equivariant or not applied there.
    """

    def __init__(
        self,
        in_rep,
        self_attn="full",
        multihead_attn="full",
        dim_feedforward=2048,
        dropout=0.1,
        activation="gelu",
        layer_norm_eps=1e-5,
        norm_first=True,
        norm_module="rmsnorm",
        bias=True,
        init_scheme="xavier_uniform",
        num_heads=1,
        position_units=0,
        position_scale=1.0,
        seed=None,
        **kwargs,
    ):
        # Coordinates stay float32 where the fields are half precision.
        super().__init__(**{"autocast": False, **kwargs})
        self.in_rep = get_representation(in_rep)
        if int(dim_feedforward) != dim_feedforward or dim_feedforward < 1:
            raise DeepLearningException(
                f"{self.name}: `dim_feedforward` must be a whole number of at least "
                f"1. Received: {dim_feedforward}"
            )
        if not layer_norm_eps > 0:
            raise DeepLearningException(
                f"{self.name}: `layer_norm_eps` must be positive. "
                f"Received: {layer_norm_eps}"
            )
        if not 0 <= dropout < 1:
            raise DeepLearningException(
                f"{self.name}: `dropout` must be in [0, 1). Received: {dropout}"
            )
        if norm_module not in NORMS:
            raise DeepLearningException(
                f"{self.name}: `norm_module` must be one of {', '.join(NORMS)}. "
                f"Received: norm_module={norm_module!r}"
            )
        self.dim_feedforward = int(dim_feedforward)
        self.dropout = float(dropout)
        self.activation = keras.activations.get(activation)
        self.layer_norm_eps = float(layer_norm_eps)
        self.norm_first = bool(norm_first)
        self.norm_module = norm_module
        self.use_bias = bool(bias)
        self.init_scheme = init_scheme
        self.num_heads = num_heads
        self.position_units = position_units
        self.position_scale = position_scale
        self.seed = seed
        self._given = {"self_attn": self_attn, "multihead_attn": multihead_attn}
        self.self_attn = self._attention("self_attn", self_attn)
        self.multihead_attn = self._attention("multihead_attn", multihead_attn)
        common = {"bias": self.use_bias, "init_scheme": init_scheme}
        common["dtype"] = self.dtype_policy
        hidden = math.ceil(self.dim_feedforward / self.group.order)
        self.linear1 = EquivariantLinear(self.in_rep, hidden, name="linear1", **common)
        self.linear2 = EquivariantLinear(
            self.linear1.out_rep, self.in_rep.multiplicity, name="linear2", **common
        )
        settings = {"eps": self.layer_norm_eps, "dtype": self.dtype_policy}
        if norm_module == "layernorm":
            settings["bias"] = self.use_bias
        parts = (self.self_attn, self.multihead_attn, self.linear1)
        self.norm1, self.norm2, self.norm3 = (
            NORMS[norm_module](self.in_rep, name=f"norm{number}", **settings)
            if part is not None
            else None
            for number, part in enumerate(parts, start=1)
        )
        self.drop = (
            keras.layers.Dropout(dropout, seed=seed, autocast=False, name="drop")
            if dropout
            else None
        )

    @property
    def group(self):
        return self.in_rep.group

    def build(
        self,
        tgt_shape,
        memory_shape,
        tgt_positions_shape=None,
        memory_positions_shape=None,
        tgt_neighbors_shape=None,
        memory_neighbors_shape=None,
    ):
        check_width(self.name, "tgt", tgt_shape, self.in_rep.size)
        check_width(self.name, "memory", memory_shape, self.in_rep.size)
        self._build_attention(
            self.self_attn,
            (tgt_shape, tgt_shape),
            (tgt_positions_shape, tgt_positions_shape),
            tgt_neighbors_shape,
        )
        self._build_attention(
            self.multihead_attn,
            (tgt_shape, memory_shape),
            (tgt_positions_shape, memory_positions_shape),
            memory_neighbors_shape,
        )
        for norm in (self.norm1, self.norm2, self.norm3):
            if norm is not None:
                norm.build(tgt_shape)
        self.linear1.build(tgt_shape)
        self.linear2.build((*tgt_shape[:-1], self.linear1.out_rep.size))

    def call(
        self,
        tgt,
        memory,
        tgt_mask=None,
        memory_mask=None,
        tgt_key_padding_mask=None,
        memory_key_padding_mask=None,
        tgt_is_causal=False,
        memory_is_causal=False,
        tgt_positions=None,
        memory_positions=None,
        tgt_position_mask=None,
        memory_position_mask=None,
        tgt_neighbors=None,
        memory_neighbors=None,
        training=False,
    ):
        check_width(self.name, "tgt", tgt.shape, self.in_rep.size)
        check_width(self.name, "memory", memory.shape, self.in_rep.size)
        masks = {
            "tgt_mask": tgt_mask,
            "memory_mask": memory_mask,
            "tgt_key_padding_mask": tgt_key_padding_mask,
            "memory_key_padding_mask": memory_key_padding_mask,
            "tgt_position_mask": tgt_position_mask,
            "memory_position_mask": memory_position_mask,
        }
        self._check_masks(masks, tgt.shape[1], memory.shape[1])
        self._check_neighbors("self_attn", "tgt_neighbors", tgt_neighbors)
        self._check_neighbors("multihead_attn", "memory_neighbors", memory_neighbors)
        if tgt_is_causal:
            tgt_mask = with_causal_mask(tgt_mask, tgt, tgt)
        if memory_is_causal:
            memory_mask = with_causal_mask(memory_mask, tgt, memory)
        if tgt_positions is not None:
            tgt_position_mask = combine(tgt_position_mask, tgt_key_padding_mask)
        queries = (tgt_positions, tgt_position_mask)
        tokens = (memory_positions, memory_position_mask)
        own_masks = (tgt_mask, tgt_key_padding_mask)
        own = call_context(own_masks, queries, (None, None), tgt_neighbors, training)
        memory_masks = (memory_mask, memory_key_padding_mask)
        other = call_context(memory_masks, queries, tokens, memory_neighbors, training)
        x = self._spectrum(tgt, tgt_key_padding_mask)
        memory = self._spectrum(memory, memory_key_padding_mask)
        if self.self_attn is not None:
            x = self._residual(x, self.norm1, training, self._attend_self, own)
        if self.multihead_attn is not None:
            x = self._residual(
                x, self.norm2, training, self._attend_memory, memory, other
            )
        x = self._residual(x, self.norm3, training, self._feed_forward, training)
        return from_spectrum(x, self.group)

    def compute_output_shape(self, tgt_shape, *_, **__):
        return tuple(tgt_shape)

    def get_config(self):
        attention = {
            name: given
            if isinstance(given, str)
            else keras.saving.serialize_keras_object(getattr(self, name))
            for name, given in self._given.items()
        }
        return {
            **super().get_config(),
            "in_rep": self.in_rep.get_config(),
            **attention,
            "dim_feedforward": self.dim_feedforward,
            "dropout": self.dropout,
            "activation": keras.activations.serialize(self.activation),
            "layer_norm_eps": self.layer_norm_eps,
            "norm_first": self.norm_first,
            "norm_module": self.norm_module,
            "bias": self.use_bias,
            "init_scheme": self.init_scheme,
            "num_heads": self.num_heads,
            "position_units": self.position_units,
            "position_scale": self.position_scale,
            "seed": self.seed,
        }
