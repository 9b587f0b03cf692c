"""The parts of an equivariant decoder layer, from spectrum to spectrum."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.equivariant.attention import EquivariantMultiHeadAttention
from vl3d_lite.model.layers.equivariant.spectral import (
    add,
    from_spectrum,
    pointwise,
    scale_copies,
    to_spectrum,
)

BUILT = ("full", "local", "none")


class DecoderBlocks:
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
        if given not in BUILT:
            raise DeepLearningException(
                f"{self.name}: `{name}` must be one of {', '.join(BUILT)} or a "
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
        """Make an attention's weights, that they are there to be trained and loaded.

        Args:
            attention: A layer or None; one that was given may have been built.
            fields: Shapes of queries and tokens.
            positions: Shapes of their positions, or two times None.
            neighbors: Shape or None.
        """
        if isinstance(attention, EquivariantMultiHeadAttention):
            if not attention.built:
                attention.build(*fields, *positions)
        elif attention is not None:
            context = {
                name: keras.KerasTensor(shape, dtype=kind)
                for name, shape, kind in (
                    ("query_positions", positions[0], "float32"),
                    ("memory_positions", positions[1], "float32"),
                    ("neighbors", neighbors, "int32"),
                )
                if shape is not None
            }
            kind = self.compute_dtype
            attention(
                *(keras.KerasTensor(shape, dtype=kind) for shape in fields), **context
            )

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

    def _residual(self, x, norm, training, block):
        if self.norm_first:
            return add(x, self._dropped(block(norm.spectral(x)), training))
        return norm.spectral(add(x, self._dropped(block(x), training)))

    def _dropped(self, spectrum, training):
        """Drop whole copies: one draw for all elements of the group."""
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
