"""The parts of an equivariant decoder layer, from spectrum to spectrum."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.equivariant.attention import EquivariantMultiHeadAttention
from vl3d_lite.model.layers.equivariant.masks import check_mask
from vl3d_lite.model.layers.equivariant.spectral import (
    add,
    from_spectrum,
    pointwise,
    scale_copies,
    to_spectrum,
)

ATTENTION = ("full", "local", "none")
# Axes of each mask of the call: of the targets or of the memory.
MASK_AXES = {
    "tgt_mask": ("tgt", "tgt"),
    "memory_mask": ("tgt", "memory"),
    "tgt_key_padding_mask": ("tgt",),
    "memory_key_padding_mask": ("memory",),
    "tgt_position_mask": ("tgt",),
    "memory_position_mask": ("memory",),
}


class DecoderBlocks(keras.layers.Layer):
    """Residuals, dropout and attention of `EquivariantTransformerDecoderLayer`."""

    def _attention(self, name, given):
        if isinstance(given, dict):
            given = keras.saving.deserialize_keras_object(given)
        if isinstance(given, keras.layers.Layer):
            own = getattr(given, "in_rep", self.in_rep)
            if own != self.in_rep:
                raise DeepLearningException(
                    f"{self.name}: `{name}` must work on `in_rep` = {self.in_rep}. "
                    f"Received: {own}"
                )
            return given
        if given not in ATTENTION:
            raise DeepLearningException(
                f"{self.name}: `{name}` must be one of {', '.join(ATTENTION)} or a "
                f"layer. Received: {given!r}"
            )
        if given == "none":
            return None
        return EquivariantMultiHeadAttention(
            self.in_rep,
            self.num_heads,
            self.dropout,
            self.use_bias,
            self.init_scheme,
            self.position_units,
            self.position_scale,
            self.seed,
            dtype=self.dtype_policy,
            name=name,
        )

    def _build_attention(self, attention, fields, positions, neighbors):
        """Make the weights of an attention, so that they can be trained and loaded.

        Args:
            attention: A layer or None; a given layer may be built already.
            fields: Shapes of queries and tokens.
            positions: Shapes of their positions, None where not given.
            neighbors: Shape or None.
        """
        if isinstance(attention, EquivariantMultiHeadAttention):
            if not attention.built:
                attention.build(*fields, *positions)
        elif attention is not None:
            context = {
                name: keras.KerasTensor(shape, dtype=dtype)
                for name, shape, dtype in (
                    ("query_positions", positions[0], "float32"),
                    ("memory_positions", positions[1], "float32"),
                    ("neighbors", neighbors, "int32"),
                )
                if shape is not None
            }
            dtype = self.compute_dtype
            attention(
                *(keras.KerasTensor(shape, dtype=dtype) for shape in fields), **context
            )

    def _check_masks(self, masks, queries, tokens):
        sizes = {"tgt": queries, "memory": tokens}
        for name, mask in masks.items():
            axes = MASK_AXES[name]
            ranks = (2,) if len(axes) == 1 else (2, 3)
            check_mask(self.name, name, mask, ranks, [sizes[axis] for axis in axes])

    def _check_neighbors(self, attention, name, neighbors):
        local = self._given[attention] == "local"
        if isinstance(self._given[attention], str) and local != (neighbors is not None):
            raise DeepLearningException(
                f"{self.name}: `{name}` must be given where `{attention}` is local, "
                f"and only there. Received: {attention}={self._given[attention]!r}, "
                f"{name} {'missing' if neighbors is None else 'given'}"
            )

    def _spectrum(self, field, key_mask):
        field = ops.cast(field, self.compute_dtype)
        if key_mask is not None:
            field = ops.where(key_mask[..., None], field, ops.zeros_like(field))
        return to_spectrum(field, self.group)

    def _residual(self, x, norm, training, block, *arguments):
        if self.norm_first:
            change = block(norm.spectral(x), *arguments)
            return add(x, self._dropped(change, training))
        return norm.spectral(add(x, self._dropped(block(x, *arguments), training)))

    def _dropped(self, spectrum, training):
        """Drop whole copies, with one draw for all elements of the group."""
        if self.drop is None or not training:
            return spectrum
        multiplicity = spectrum[0].shape[-1]
        shape = (*ops.shape(spectrum[0])[:2], multiplicity)
        keep = self.drop(ops.ones(shape, self.compute_dtype), training=True)
        return scale_copies(spectrum, keep, self.group)

    def _attend_self(self, x, context):
        if isinstance(self.self_attn, EquivariantMultiHeadAttention):
            return self.self_attn.spectral(x, **context)
        field = from_spectrum(x, self.group)
        if "query_positions" in context:
            context = {**context, "memory_positions": context["query_positions"]}
        return to_spectrum(self.self_attn(field, field, **context), self.group)

    def _attend_memory(self, x, memory, context):
        if isinstance(self.multihead_attn, EquivariantMultiHeadAttention):
            return self.multihead_attn.spectral(x, memory, **context)
        fields = (from_spectrum(field, self.group) for field in (x, memory))
        return to_spectrum(self.multihead_attn(*fields, **context), self.group)

    def _feed_forward(self, x, training):
        hidden = pointwise(self.activation, self.linear1.spectral(x), self.group)
        return self.linear2.spectral(self._dropped(hidden, training))


def call_context(masks, queries, tokens, neighbors, training):
    """Return the call arguments of an attention that are given, by name.

    Args:
        masks: `attention_mask` and `key_mask`, each perhaps None.
        queries: Positions of the queries and their mask, each perhaps None.
        tokens: The same of the tokens.
        neighbors: ``(B, T, K)`` int, or None.
        training: Whether to drop.
    """
    context = {
        "attention_mask": masks[0],
        "key_mask": masks[1],
        "query_positions": queries[0],
        "memory_positions": tokens[0],
        "query_position_mask": queries[1],
        "memory_position_mask": tokens[1],
        "neighbors": neighbors,
        "training": training,
    }
    return {name: value for name, value in context.items() if value is not None}
