"""The last step of grouped vector attention: three factors, summed over neighbors."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import as_shapes


def contract_neighbors(alpha, values, w=None):
    """Sum ``alpha * w * values`` over the neighbors.

    A product and a sum, which XLA fuses, so that the product is never stored. An
    einsum of three operands prevents that fusion, and without XLA it is 70 times
    slower.

    Args:
        alpha: ``(..., K, G)`` float, attention weights.
        values: ``(..., K, G, d)`` float.
        w: ``(..., K, G, d)`` float, or None for a factor of one.

    Returns:
        ``(..., G, d)`` float.
    """
    if w is not None:
        values = ops.multiply(w, values)
    return ops.sum(ops.multiply(ops.expand_dims(alpha, -1), values), axis=-3)


@keras.saving.register_keras_serializable(package="vl3d_lite")
class TORFGVALayer(keras.layers.Layer):
    """Contract attention weights, weight encoding and modulated values.

    For a sample ``b``, group ``g`` and channel ``e`` of the group::

        A_bge = sum_k alpha_bkg * w_bkge * V_bkge

    The layer has no weights and computes in the float type of its policy.

    Shapes: ``B`` samples, ``K`` neighbors, ``G`` groups, ``d`` channels per group.

    Args:
        weighted: Whether ``w`` is given; without it the factor is 1, and no tensor
            of ones is stored.

    Call arguments:
        inputs: A list of three: ``alpha`` ``(B, K, G)``, softmax weights;
            ``w`` ``(B, K, G, d)``, weight encoding; ``V`` ``(B, K, G, d)``,
            values plus positional encoding. With ``weighted=False`` a list of
            two, ``[alpha, V]``.
        training: Ignored.
        mask: Ignored.

    Returns:
        ``(B, G, d)`` float.

    Raises:
        DeepLearningException: The ranks are not (3, 4, 4), or an axis differs
            between the inputs.

    Source:
        The last step of VL3D's GVA. We compute its single einsum as a product
        and a sum; the result differs by float rounding only.
    """

    def __init__(self, weighted=True, **kwargs):
        super().__init__(**kwargs)
        self.weighted = weighted

    def build(self, input_shape):
        self._check_shapes(input_shape)

    def call(self, inputs, training=False, mask=False):
        self._check_shapes([value.shape for value in inputs])
        alpha, *w, values = inputs
        return contract_neighbors(alpha, values, *w)

    def compute_mask(self, *_):
        # The mask of the call is no mask of a sequence; Keras would warn of it.
        return None

    def compute_output_shape(self, input_shape):
        self._check_shapes(input_shape)
        values = input_shape[-1]
        return (values[0], *values[2:])

    def get_config(self):
        return {**super().get_config(), "weighted": self.weighted}

    def _check_shapes(self, input_shape):
        shapes = [tuple(shape) for shape in as_shapes(input_shape)]
        ranks = tuple(len(shape) for shape in shapes)
        if self.weighted and ranks != (3, 4, 4):
            raise DeepLearningException(
                f"{self.name}: TORFGVALayer needs three inputs of ranks (3, 4, 4), "
                "[alpha (B, K, G), w (B, K, G, d), V (B, K, G, d)]. "
                f"Received: {len(shapes)} inputs of shapes {shapes}"
            )
        if not self.weighted and ranks != (3, 4):
            raise DeepLearningException(
                f"{self.name}: TORFGVALayer(weighted=False) needs two inputs of ranks "
                "(3, 4), [alpha (B, K, G), V (B, K, G, d)]. "
                f"Received: {len(shapes)} inputs of shapes {shapes}"
            )
        alpha, *_, values = shapes
        _check_axes(self.name, alpha, shapes[1], values)


def _check_axes(name, alpha, w, values):
    shapes = [alpha, w, values]
    for letter, sizes in zip(
        ("B", "K", "G", "d"), zip((*alpha, None), w, values, strict=True), strict=True
    ):
        if len({size for size in sizes if size is not None}) > 1:
            raise DeepLearningException(
                f"{name}: axis {letter} must agree in alpha (B, K, G), "
                f"w (B, K, G, d) and V (B, K, G, d). Received: shapes {shapes}"
            )
