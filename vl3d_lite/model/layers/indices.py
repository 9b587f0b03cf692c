"""Layers that compute masks and indices from neighbor indices."""

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import as_shapes
from vl3d_lite.model.layers.neighborhood import gather_neighbors, is_real


@keras.saving.register_keras_serializable(package="vl3d_lite")
class RealPoints(keras.layers.Layer):
    """Return which points are real, as opposed to padded.

    For a point ``i`` and its row of the neighbors::

        y_i = any over k of 0 <= neighbors_ik < R

    A real point lists itself, so a point without a present neighbor is padding.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        neighbors: ``(B, R, K)`` int, rows of the points; -1 where missing.

    Returns:
        ``(B, R)`` bool, True for real points.

    Raises:
        DeepLearningException: The neighbors are not of rank 3.

    Source:
        Ours, for the masks of attention over padded fields.
    """

    def build(self, neighbors_shape):
        _check_ranks(self.name, [neighbors_shape])

    def call(self, neighbors):
        return is_real(neighbors, ops.shape(neighbors)[1])

    def compute_output_shape(self, neighbors_shape):
        return tuple(neighbors_shape[:2])

    def compute_output_spec(self, neighbors):
        return keras.KerasTensor(neighbors.shape[:2], dtype="bool")


@keras.saving.register_keras_serializable(package="vl3d_lite")
class CoarseNeighbors(keras.layers.Layer):
    """Find the neighbors, at the coarsest stage, of each fine point's parent.

    For a fine point ``i`` and the parents ``p_l`` that each stage lists first::

        y_i = neighbors[p_(L-1)(... p_1(p_0(i)))]

    A point without a parent at some stage has no neighbors. With one stage only,
    the points are their own parents.

    Shapes: ``B`` fields, ``R_l`` points and ``U`` parents of stage ``l``, ``S``
    points and ``K`` neighbors of the coarsest stage.

    Args:
        **kwargs: Arguments of `keras.layers.Layer`, such as `name` and `dtype`.

    Call arguments:
        inputs: A list: ``up_l`` of every stage but the last, ``(B, R_l, U)`` int,
            the parent first; then the neighbors of the last, ``(B, S, K)`` int.
            -1 where missing.

    Returns:
        ``(B, R_0, K)`` int32, rows of the coarsest stage; -1 where missing.

    Raises:
        DeepLearningException: An input is not of rank 3.

    Source:
        Ours, for local attention from the finest to the coarsest stage.
    """

    def build(self, input_shape):
        _check_ranks(self.name, as_shapes(input_shape))

    def call(self, inputs):
        *tables, neighbors = inputs
        if not tables:
            return ops.cast(neighbors, "int32")
        parent = ops.cast(tables[0][..., :1], "int32")
        for table in [*(table[..., :1] for table in tables[1:]), neighbors]:
            # Missing entries gather 0, so the indices are one higher meanwhile.
            found = gather_neighbors(ops.cast(table, "int32") + 1, parent)
            parent = ops.squeeze(found, axis=2) - 1
        return parent

    def compute_output_shape(self, input_shape):
        shapes = as_shapes(input_shape)
        if len(shapes) == 1:
            return tuple(shapes[0])
        return (*shapes[0][:2], shapes[-1][-1])

    def compute_output_spec(self, inputs):
        shape = self.compute_output_shape([x.shape for x in inputs])
        return keras.KerasTensor(shape, dtype="int32")


def _check_ranks(name, shapes):
    shapes = [tuple(shape) for shape in shapes]
    if not shapes or any(len(shape) != 3 for shape in shapes):
        raise DeepLearningException(
            f"{name}: every input must be of rank 3, (B, R, K). Received: {shapes}"
        )
