"""Nearest kernel point and influence of every neighbor, once per stage."""

from numbers import Real

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.convolution.fibonacci import FibonacciShellInitializer
from vl3d_lite.model.layers.neighborhood import (
    is_present,
    materialize,
    neighbor_offsets,
)
from vl3d_lite.model.layers.precision import maximum, minimum

INFLUENCES = ("linear", "constant", "gaussian")


def nearest_kernel_point(offsets, kernel_points):
    """Find the kernel point nearest to each offset; the first of equal ones.

    One pass over the kernel points that keeps the best so far: XLA fuses it into
    one loop, and no tensor has an axis of kernel points. At (4, 2048, 16, 3) and 21
    points it takes 8 ms in a graph and 0.5 ms under XLA; the expanded square by
    matmul and argmin takes 13 ms in both.

    Args:
        offsets: ``(..., n_x)`` float, meters.
        kernel_points: ``(mq, n_x)`` float, meters.

    Returns:
        ``(...)`` int32 in ``[0, mq)``. No gradient.
    """
    axes = ops.unstack(ops.stop_gradient(offsets), axis=-1)
    # Taken apart once: a slice for each number makes up a sixth of a graph's nodes.
    points = [
        ops.unstack(column)
        for column in ops.unstack(ops.stop_gradient(kernel_points), axis=-1)
    ]
    best, nearest = None, ops.zeros_like(axes[0], dtype="int32")
    for index, point in enumerate(zip(*points, strict=True)):
        squares = [ops.square(x - q) for x, q in zip(axes, point, strict=True)]
        distance = sum(squares[1:], squares[0])
        if best is None:
            best = distance
            continue
        nearest = ops.where(distance < best, index, nearest)
        best = minimum(distance, best)
    return nearest


def kernel_influence(offsets, kernel_points, nearest, sigma, influence="linear"):
    """Weight each neighbor by its distance ``d`` to its kernel point.

    ``linear``: ``max(0, 1 - d / sigma)``; ``constant``: 1; ``gaussian``:
    ``exp(-d^2 / (2 (0.3 sigma)^2))``, as in KPConv, not clipped at `sigma`.
    The gradient of ``d`` is zero where ``d`` is zero.

    Args:
        offsets: ``(..., n_x)`` float, meters.
        kernel_points: ``(mq, n_x)`` float, meters.
        nearest: ``(...)`` int in ``[0, mq)``.
        sigma: Influence distance, meters. Positive.
        influence: One of `INFLUENCES`.

    Returns:
        ``(...)`` float.
    """
    if influence == "constant":
        return ops.ones_like(offsets[..., 0])
    apart = offsets - ops.take(kernel_points, nearest, axis=0)
    squared = ops.sum(ops.square(apart), axis=-1) / sigma**2
    if influence == "gaussian":
        return ops.exp(squared * (-0.5 / 0.3**2))
    # A square root has an infinite slope at 0, where points meet kernel points.
    return ops.relu(1.0 - ops.sqrt(maximum(squared, 1e-24)))


def kernel_geometry(
    support, neighbors, centers, kernel_points, sigma, influence="linear"
):
    """Return ``[nearest, influence]``, both ``(B, M, K)`` and 0 where missing.

    Args:
        support: ``(B, R, n_x)`` float, meters.
        neighbors: ``(B, M, K)`` int, rows of `support`.
        centers: ``(B, M, n_x)`` float, meters.
        kernel_points: ``(mq, n_x)`` float, meters.
        sigma: See `kernel_influence`.
        influence: See `kernel_influence`.
    """
    offsets = neighbor_offsets(support, neighbors, centers)
    nearest = nearest_kernel_point(offsets, kernel_points)
    nearest = materialize(ops.cast(nearest, offsets.dtype), neighbors)
    nearest = ops.cast(nearest, "int32")
    weights = kernel_influence(offsets, kernel_points, nearest, sigma, influence)
    present = is_present(neighbors, support)
    nearest = ops.where(present, nearest, ops.zeros_like(nearest))
    return [nearest, ops.where(present, weights, ops.zeros_like(weights))]


def coordinate_dtype(layer):
    """Return the dtype of coordinates: never half precision.

    float16 rounds meters to centimeters beyond 32 m.
    """
    return "float64" if layer.variable_dtype == "float64" else "float32"


def check_kernel(where, sigma, influence):
    """Check the arguments of every layer with kernel points.

    Raises:
        DeepLearningException: `sigma` is not positive or `influence` unknown.
    """
    if not (isinstance(sigma, Real) and float(sigma) > 0):
        raise DeepLearningException(
            f"{where}: `sigma` must be positive (meters). Received: sigma={sigma}"
        )
    if influence not in INFLUENCES:
        raise DeepLearningException(
            f"{where}: `influence` must be one of {', '.join(INFLUENCES)}. "
            f"Received: influence={influence!r}"
        )


@keras.saving.register_keras_serializable(package="vl3d_lite")
class KernelGeometryLayer(keras.layers.Layer):
    """Find each neighbor's nearest kernel point and the influence of that point.

    For a neighbor ``j`` of a center ``i`` and the kernel points ``q``::

        n_ij = argmin_k |x_j - x_i - q_k|            (the first of equal ones)
        h_ij = influence(|x_j - x_i - q_n| / sigma)   (0 where missing)

    Without a shell of radius 0, a center is as far from all kernel points of the
    innermost shell, as is any point on its axis; rounding decides between them, so
    `n` may differ between backends there. A center shell avoids that.

    A missing neighbor has nearest 0 and influence exactly 0. All blocks of a stage
    share the result. The kernel points are not trained; a deformable kernel
    computes its own geometry. Coordinates stay float32 under mixed precision.

    Shapes: ``B`` fields, ``R`` support points, ``M`` centers, ``K`` neighbors,
    ``n_x`` 2 or 3.

    Args:
        sigma: Influence distance, in meters. Positive.
        shell_radii: See `FibonacciShellInitializer`.
        shell_points: See `FibonacciShellInitializer`.
        influence: "linear", "constant" or "gaussian", see `kernel_influence`.

    Call arguments:
        inputs: ``[X, N]`` or ``[X, N, centers]``: ``(B, R, n_x)`` float, in
            meters; ``(B, M, K)`` int, rows of ``X``, -1 where missing;
            ``(B, M, n_x)`` float, in meters, ``X`` by default.

    Returns:
        ``[nearest, influence]``: ``(B, M, K)`` int32, ``(B, M, K)`` float.

    Raises:
        DeepLearningException: An argument or a shape is out of its range.

    Source:
        Thomas et al., *KPConvX* (2024), eq. 2 and 3. The other influences are
        those of KPConv's code.
    """

    def __init__(self, sigma, shell_radii, shell_points, influence="linear", **kwargs):
        super().__init__(autocast=False, **kwargs)
        check_kernel(self.name, sigma, influence)
        self.Q_initializer = FibonacciShellInitializer(shell_radii, shell_points)
        self.sigma = float(sigma)
        self.influence = influence

    @property
    def mq(self):
        """The number of kernel points."""
        return self.Q_initializer.mq

    def build(self, input_shape):
        self._check_shapes(input_shape)
        self.Q = self.add_weight(
            name="Q",
            shape=(self.mq, input_shape[0][-1]),
            initializer=self.Q_initializer,
            dtype=coordinate_dtype(self),
            trainable=False,
            autocast=False,
        )

    def call(self, inputs):
        support, neighbors, *centers = inputs
        dtype = coordinate_dtype(self)
        support = ops.cast(support, dtype)
        centers = ops.cast(centers[0], dtype) if centers else support
        return kernel_geometry(
            support,
            neighbors,
            centers,
            ops.convert_to_tensor(self.Q),
            self.sigma,
            self.influence,
        )

    def compute_output_shape(self, input_shape):
        self._check_shapes(input_shape)
        return [tuple(input_shape[1]), tuple(input_shape[1])]

    def compute_output_spec(self, inputs):
        nearest, influence = self.compute_output_shape([x.shape for x in inputs])
        return [
            keras.KerasTensor(nearest, dtype="int32"),
            keras.KerasTensor(influence, dtype=coordinate_dtype(self)),
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "sigma": self.sigma,
            **self.Q_initializer.get_config(),
            "influence": self.influence,
        }

    def _check_shapes(self, shapes):
        shapes = [tuple(shape) for shape in shapes]
        if (
            len(shapes) not in (2, 3)
            or any(len(shape) != 3 for shape in shapes)
            or shapes[0][-1] not in (2, 3)
            or any(shape[-1] != shapes[0][-1] for shape in shapes[2:])
        ):
            raise DeepLearningException(
                f"{self.name}: inputs must be [X, N] or [X, N, centers] of shapes "
                "(B, R, n_x), (B, M, K), (B, M, n_x) with n_x of 2 or 3. "
                f"Received: {shapes}"
            )
