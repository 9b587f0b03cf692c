"""Grouped-query attention: queries of several heads share keys and values."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException


@keras.saving.register_keras_serializable(package="vl3d_lite")
class GroupedQueryAttentionLayer(keras.layers.Layer):
    """Attend with several query heads to each head of keys and values.

    For a query ``i``, a head ``u`` and the head ``v = u // (U / V)`` of keys and
    values, over the ``j`` that ``i`` may attend to::

        a_uij = softmax over j of (x_i Q_u + q_u) . (z_j K_v + k_v) / sqrt(head_dim)
        y_i   = sum_u (sum_j a_uij (w_j V_v + v_v)) O_u + o

    ``num_key_value_heads = num_query_heads`` is multi-head attention, 1 is
    multi-query attention. A query with nothing to attend to has a zero context,
    so that ``y_i = o``, and zero scores. The values in masked slots, NaN and inf
    included, affect neither outputs nor scores nor gradients.

    Shapes: ``B`` fields, ``T`` queries, ``S`` keys, ``C`` channels, ``U`` query
    heads, ``V`` heads of keys and values.

    Args:
        head_dim: Channels of a head. Positive.
        num_query_heads: ``U``. Positive.
        num_key_value_heads: ``V``. Positive; divides ``U``.
        dropout: Share of attention weights dropped in training, in [0, 1).
        use_bias: Whether the four projections have biases.
        flash_attention: True for the backend's flash kernel (JAX, PyTorch),
            False for none; None leaves the choice to Keras.
        kernel_initializer: Initializer of the four matrices.
        bias_initializer: Initializer of the biases.
        kernel_regularizer: Regularizer of the four matrices.
        bias_regularizer: Regularizer of the biases.
        activity_regularizer: Regularizer of the outputs of the four projections.
        kernel_constraint: Constraint of the four matrices.
        bias_constraint: Constraint of the biases.
        seed: Seed of the dropout.

    Call arguments:
        query: ``(B, T, C)`` float, ``x``.
        value: ``(B, S, C)`` float, ``w``.
        key: ``(B, S, C)`` float, ``z``; `value` by default.
        query_mask: ``(B, T)`` bool, True where a query is present.
        value_mask: ``(B, S)`` bool, True where a value is present.
        key_mask: ``(B, S)`` bool, True where a key is present.
        attention_mask: ``(B, T, S)``, ``(1, T, S)`` or ``(T, S)`` bool, True where
            a query attends to a key.
        return_attention_scores: Whether to return ``a`` too, before dropout.
        training: Whether to drop attention weights.
        use_causal_mask: Whether query ``i`` attends to keys ``j <= i`` only.

    Returns:
        ``(B, T, C)`` float; with `return_attention_scores` also ``(B, U, T, S)``.

    Raises:
        DeepLearningException: An argument is out of range, the numbers of heads
            do not divide, a mask is not boolean, shapes disagree, or
            `flash_attention` is True on TensorFlow or together with dropout.

    Source:
        Ainslie et al., *GQA* (2023), on `keras.layers.GroupQueryAttention`. That
        of Keras 3.15 gives a query without a key the mean of masked values
        unless scores are returned, casts float masks to bool, lets inf in masked
        slots through, and loses `flash_attention` when it is saved; ours does
        not.
    """

    def __init__(
        self,
        head_dim,
        num_query_heads,
        num_key_value_heads,
        dropout=0.0,
        use_bias=True,
        flash_attention=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        activity_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        sizes = {
            "head_dim": head_dim,
            "num_query_heads": num_query_heads,
            "num_key_value_heads": num_key_value_heads,
        }
        for name, size in sizes.items():
            if isinstance(size, bool) or not isinstance(size, int) or size < 1:
                raise DeepLearningException(
                    f"{self.name}: `{name}` must be a whole number of at least 1. "
                    f"Received: {name}={size!r}"
                )
        if num_query_heads % num_key_value_heads:
            raise DeepLearningException(
                f"{self.name}: `num_query_heads` must be a multiple of "
                f"`num_key_value_heads`. Received: num_query_heads={num_query_heads}, "
                f"num_key_value_heads={num_key_value_heads}"
            )
        if not 0 <= dropout < 1:
            raise DeepLearningException(
                f"{self.name}: `dropout` must be in [0, 1). Received: dropout={dropout}"
            )
        flash = flash_attention
        if flash is None:
            flash = keras.config.is_flash_attention_enabled()
        if flash and keras.backend.backend() == "tensorflow":
            raise DeepLearningException(
                f"{self.name}: TensorFlow has no flash attention; leave "
                "`flash_attention` out, or set KERAS_BACKEND to jax or torch"
            )
        if flash and dropout:
            raise DeepLearningException(
                f"{self.name}: flash attention has no dropout; set `dropout` to 0 or "
                f"`flash_attention` to False. Received: dropout={dropout}"
            )
        self.head_dim = head_dim
        self.num_query_heads = num_query_heads
        self.num_key_value_heads = num_key_value_heads
        self.dropout = dropout
        self.use_bias = use_bias
        self.flash_attention = flash_attention
        self.seed = seed
        self.attention = keras.layers.GroupQueryAttention(
            head_dim,
            num_query_heads,
            num_key_value_heads,
            dropout=dropout,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=bias_initializer,
            kernel_regularizer=kernel_regularizer,
            bias_regularizer=bias_regularizer,
            activity_regularizer=activity_regularizer,
            kernel_constraint=kernel_constraint,
            bias_constraint=bias_constraint,
            seed=seed,
            dtype=self.dtype_policy,
            name="attention",
        )
        self._flash = flash

    def build(self, query_shape, value_shape, key_shape=None):
        key_shape = value_shape if key_shape is None else key_shape
        shapes = (query_shape, value_shape, key_shape)
        if [len(shape) for shape in shapes] != [3, 3, 3]:
            raise DeepLearningException(
                f"{self.name}: expected query (B, T, C), value (B, S, C) and key "
                f"(B, S, C). Received: shapes {shapes}"
            )
        if len({shape[-1] for shape in shapes}) > 1 or value_shape[1] != key_shape[1]:
            raise DeepLearningException(
                f"{self.name}: query, value and key must have as many channels, value "
                f"and key the same length. Received: shapes {shapes}"
            )
        self.attention.build(query_shape, value_shape, key_shape)

    def call(
        self,
        query,
        value,
        key=None,
        query_mask=None,
        value_mask=None,
        key_mask=None,
        attention_mask=None,
        return_attention_scores=False,
        training=None,
        use_causal_mask=False,
    ):
        attends = self._attends(
            query,
            value,
            {
                "query_mask": query_mask,
                "value_mask": value_mask,
                "key_mask": key_mask,
                "attention_mask": attention_mask,
            },
            use_causal_mask,
        )
        # Fused kernels return no scores, and compute in float32 at most.
        explicit = return_attention_scores or self.compute_dtype == "float64"
        self.attention._flash_attention = None if explicit else self._flash
        options = {"return_attention_scores": explicit, "training": training}
        if attends is None:
            result = self.attention(query, value, key=key, **options)
            return result if return_attention_scores or not explicit else result[0]
        attending = ops.any(attends, axis=-1)[..., None]  # (B, T, 1)
        attended = ops.any(attends, axis=-2)[..., None]  # (B, S, 1)
        query = ops.where(attending, query, 0.0)
        contaminated = None
        if attention_mask is not None or use_causal_mask:
            # A key that is visible to one query may be hidden from another.
            finite = _finite(value) if key is None else _finite(value) & _finite(key)
            contaminated = ops.any(attends & ~ops.swapaxes(finite, 1, 2), axis=-1)
            attended = attended & finite
        value = ops.where(attended, value, 0.0)
        key = value if key is None else ops.where(attended, key, 0.0)
        result = self.attention(
            query, value, key=key, attention_mask=attends | ~attending, **options
        )
        output, scores = result if explicit else (result, None)
        bias = self.attention._output_dense.bias if self.use_bias else 0.0
        output = ops.where(attending, output, ops.cast(bias, output.dtype))
        if contaminated is not None:
            output = ops.where(contaminated[..., None], float("nan"), output)
        if not return_attention_scores:
            return output
        return output, ops.where(ops.expand_dims(attends, 1), scores, 0.0)

    def _attends(self, query, value, masks, causal):
        """Return ``(B, T, S)`` or ``(1, T, S)`` bool, or None if all attend to all."""
        lengths = (query.shape[1], value.shape[1])
        for name, mask in masks.items():
            if mask is not None:
                masks[name] = self._checked_mask(name, mask, *lengths)
        parts = []
        if masks["attention_mask"] is not None:
            mask = masks["attention_mask"]
            parts.append(mask[None] if len(mask.shape) == 2 else mask)
        if masks["query_mask"] is not None:
            parts.append(masks["query_mask"][:, :, None])
        for name in ("value_mask", "key_mask"):
            if masks[name] is not None:
                parts.append(masks[name][:, None, :])
        targets, sources = ops.shape(query)[1], ops.shape(value)[1]
        if causal:
            rows, columns = ops.arange(targets), ops.arange(sources)
            parts.append((rows[:, None] >= columns[None, :])[None])
        if not parts:
            return None
        attends = ops.ones((1, targets, sources), "bool")
        for part in parts:
            attends = ops.logical_and(attends, part)
        return attends

    def _checked_mask(self, name, mask, queries, keys):
        """Return the mask as a tensor.

        Raises:
            DeepLearningException: The mask is not boolean, or of another shape.
        """
        sizes, ranks, form = {
            "query_mask": ((queries,), (2,), "(B, length)"),
            "attention_mask": ((queries, keys), (2, 3), "(B, T, S) or (T, S)"),
        }.get(name, ((keys,), (2,), "(B, length)"))
        mask = ops.convert_to_tensor(mask)
        dtype = keras.backend.standardize_dtype(mask.dtype)
        if dtype != "bool":
            raise DeepLearningException(
                f"{self.name}: `{name}` must be boolean, True where a query "
                f"attends. Received: {dtype}; convert an additive mask by "
                "`mask == 0`"
            )
        if len(mask.shape) not in ranks:
            raise DeepLearningException(
                f"{self.name}: `{name}` must have the shape {form}. "
                f"Received: shape {tuple(mask.shape)}"
            )
        own = tuple(mask.shape)[-len(sizes) :]
        if any(
            received not in (1, None, size) and size is not None
            for received, size in zip(own, sizes, strict=True)
        ):
            raise DeepLearningException(
                f"{self.name}: `{name}` must end in {' x '.join(map(str, sizes))}"
                f". Received: shape {tuple(mask.shape)}"
            )
        return mask

    def compute_output_shape(self, query_shape, *_, **__):
        return tuple(query_shape)

    def compute_output_spec(
        self, query, value, *args, return_attention_scores=False, **kwargs
    ):
        output = keras.KerasTensor(query.shape, dtype=self.compute_dtype)
        if not return_attention_scores:
            return output
        shape = (query.shape[0], self.num_query_heads, query.shape[1], value.shape[1])
        return output, keras.KerasTensor(shape, dtype=self.compute_dtype)

    def get_config(self):
        inner = self.attention.get_config()
        same = (
            "kernel_initializer",
            "bias_initializer",
            "kernel_regularizer",
            "bias_regularizer",
            "activity_regularizer",
            "kernel_constraint",
            "bias_constraint",
        )
        return {
            **super().get_config(),
            "head_dim": self.head_dim,
            "num_query_heads": self.num_query_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "dropout": self.dropout,
            "use_bias": self.use_bias,
            "flash_attention": self.flash_attention,
            **{name: inner[name] for name in same},
            "seed": self.seed,
        }


def _finite(values):
    """Return ``(B, S, 1)`` bool, True where all channels are finite."""
    return ops.all(ops.isfinite(values), axis=-1, keepdims=True)
