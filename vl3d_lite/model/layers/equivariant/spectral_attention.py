"""Multi-head attention from spectrum to spectrum."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.equivariant.heads import (
    attend_to_all,
    attend_to_neighbors,
    finite_points,
    heads_of,
    position_context,
    position_logits,
    present_only,
    spectrum_from_heads,
    split_maps,
)
from vl3d_lite.model.layers.equivariant.masks import (
    by_head,
    check_mask,
    combine,
    finite_positions,
    masked_softmax,
    neighbors_mask,
    pairs_mask,
    sees_any,
)
from vl3d_lite.model.layers.equivariant.spectral import add, multiply


class SpectralAttention(keras.layers.Layer):
    """The part of `EquivariantMultiHeadAttention` between its two changes of basis."""

    def spectral(
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
        """Attend from spectrum to spectrum; see the call arguments of the layer."""
        tokens = query if memory is None else memory
        self._check_masks(query, tokens, attention_mask, key_mask, neighbors)
        attention_mask = by_head(
            self.name,
            "attention_mask",
            attention_mask,
            query[0].shape[0],
            # Local attention has one mask for all heads.
            self.num_heads if neighbors is None else 1,
        )
        if memory is None:
            memory_positions = query_positions
            memory_position_mask = query_position_mask
        contaminated = None
        if attention_mask is not None:
            finite = finite_points(tokens)
            if memory_positions is not None:
                finite = combine(
                    finite, finite_positions(memory_positions, memory_position_mask)
                )
            contaminated = self._contaminated(
                tokens, finite, attention_mask, key_mask, neighbors, memory is None
            )
            key_mask = combine(finite, key_mask)
        if memory is None:
            query_position_mask = combine(query_position_mask, key_mask)
        encoded = self._encode(
            query_positions,
            memory_positions,
            query_position_mask,
            combine(memory_position_mask, key_mask),
            neighbors,
        )
        query, key, value = self._project(query, memory, key_mask)
        masks = attention_mask, key_mask
        context = self._context(query, key, value, encoded, masks, neighbors, training)
        kernel, bias = self._weights("out")
        result = multiply(context, kernel, bias, self.group)
        if contaminated is None:
            return result
        contaminated = contaminated[:, :, None, None]
        return [
            ops.where(contaminated, ops.full_like(block, float("nan")), block)
            for block in result
        ]

    def _check_masks(self, query, tokens, attention_mask, key_mask, neighbors):
        ranks = (2, 3, 4) if neighbors is None else (2, 3)
        sizes = (query[0].shape[1], tokens[0].shape[1])
        check_mask(self.name, "attention_mask", attention_mask, ranks, sizes)
        check_mask(self.name, "key_mask", key_mask, (2,), sizes[1:])

    def _contaminated(
        self, tokens, finite, attention_mask, key_mask, neighbors, own_tokens
    ):
        """Return ``(B, T or 1)`` bool, True where a query sees a NaN or infinity.

        A token that is visible to one query may be hidden from another, so its
        values are zeroed for all and the queries that see it get NaN.
        """
        unusable = combine(ops.logical_not(finite), key_mask)
        seen = sees_any(attention_mask, unusable, neighbors, tokens[0])
        return ops.logical_or(seen, unusable) if own_tokens else seen

    def _context(self, query, key, value, encoded, masks, neighbors, training):
        """Return the weighted sum of the values, a spectrum.

        Args:
            query: Spectrum of the queries.
            key: Spectrum of the keys.
            value: Spectrum of the values.
            encoded: Relative positions, see `LiftedOffsets`, or None.
            masks: `attention_mask` and `key_mask`.
            neighbors: ``(B, T, K)`` int, or None.
            training: Whether to drop weights.
        """
        if neighbors is None:
            mask, axis = pairs_mask(*masks), -1
        else:
            # Only the shape (B, S, ...) of the tokens matters.
            mask, axis = neighbors_mask(neighbors, key[0][:, :, 0], *masks), 2
            mask = mask[..., None]

        def softmax(logits):
            return self._softmax(logits, mask, axis, training)

        bias = None
        if encoded is not None:
            kernel = self._per_head(self.position_key_kernel)
            bias = position_logits(query, encoded, kernel, self.group)
        query, key, value = (
            heads_of(field, self.num_heads) for field in (query, key, value)
        )
        if neighbors is None:
            context, weights = attend_to_all(query, key, value, bias, softmax)
        else:
            context, weights = attend_to_neighbors(
                query, key, value, neighbors, bias, softmax
            )
        context = spectrum_from_heads(context, self.group)
        if encoded is None:
            return context
        kernel = self._per_head(self.position_value_kernel)
        return add(context, position_context(weights, encoded, kernel, self.group))

    def _weights(self, name, start=None, stop=None):
        kernel = ops.cast(getattr(self, f"{name}_kernel"), self.compute_dtype)
        bias = getattr(self, f"{name}_bias")
        if bias is not None:
            bias = ops.cast(bias, self.compute_dtype)[start:stop]
        return kernel[start:stop], bias

    def _per_head(self, kernel):
        kernel = ops.cast(kernel, self.compute_dtype)
        return ops.reshape(kernel, (self.position_units, self.num_heads, -1))

    def _project(self, query, memory, key_mask):
        """Return the spectra of queries, keys and values."""
        multiplicity, group = self.in_rep.multiplicity, self.group
        if memory is None:
            kernel, bias = self._weights("in")
            joined = multiply(present_only(query, key_mask), kernel, bias, group)
            return split_maps(joined, 3, group)
        kernel, bias = self._weights("in", 0, multiplicity)
        query = multiply(query, kernel, bias, group)
        kernel, bias = self._weights("in", multiplicity, 3 * multiplicity)
        joined = multiply(present_only(memory, key_mask), kernel, bias, group)
        return query, *split_maps(joined, 2, group)

    def _softmax(self, logits, mask, axis, training):
        size = self.in_rep.size // self.num_heads
        if self.compute_dtype in ("float16", "bfloat16"):
            logits = ops.cast(logits, "float32")
        weights = masked_softmax(logits * size**-0.5, mask, axis)
        if self.weight_dropout is not None:
            weights = self.weight_dropout(weights, training=training)
        return ops.cast(weights, self.compute_dtype)

    def _encode(self, queries, tokens, query_mask, token_mask, neighbors):
        if self.offsets is None:
            if queries is not None or tokens is not None:
                raise DeepLearningException(
                    f"{self.name}: positions must not be given where `position_units` "
                    "is 0. Pass no positions, or set `position_units`"
                )
            return None
        self._require_positions(queries, "query_positions")
        self._require_positions(tokens, "memory_positions")
        check_mask(self.name, "query_position_mask", query_mask, (2,))
        check_mask(self.name, "memory_position_mask", token_mask, (2,))
        # Masked positions may be NaN; zeros keep NaN from outputs and gradients.
        queries, tokens = (
            positions
            if mask is None
            else ops.where(mask[..., None], positions, ops.zeros_like(positions))
            for positions, mask in ((queries, query_mask), (tokens, token_mask))
        )
        encoded = self.offsets(queries, tokens, neighbors)
        valid = None if query_mask is None else query_mask[:, :, None]
        if neighbors is not None:
            present = neighbors_mask(neighbors, tokens, None, token_mask)
            valid = combine(valid, present)
        elif token_mask is not None:
            valid = combine(valid, token_mask[:, None, :])
        if valid is None:
            return encoded
        return ops.where(valid[..., None], encoded, ops.zeros_like(encoded))

    def _require_positions(self, value, name):
        if value is None:
            raise DeepLearningException(
                f"{self.name}: `{name}` is missing; `position_units` = "
                f"{self.position_units} needs it"
            )
