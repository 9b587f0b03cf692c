"""KPConvX: a depthwise kernel point convolution with kernel attention."""

from numbers import Real

import keras
import numpy as np
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers.arguments import as_shapes
from vl3d_lite.model.layers.convolution.fibonacci import FibonacciShellInitializer
from vl3d_lite.model.layers.convolution.kernel_geometry import (
    check_kernel,
    coordinate_dtype,
    kernel_geometry,
)
from vl3d_lite.model.layers.convolution.kpconvx_operator import kpconvx_operator
from vl3d_lite.model.layers.neighborhood import (
    gather_neighbors,
    is_present,
    is_real,
    require_integers,
)

ORDERS = ("vl3d", "apple")
# Model files of version 0.1 hold the old names.
OLD_ORDERS = {"seed": "vl3d", "official": "apple"}
LEAKY_RELU = keras.layers.LeakyReLU()


@keras.saving.register_keras_serializable(package="vl3d_lite")
class KPConvXLayer(keras.layers.Layer):
    """Blocks of kernel point convolution, attention over kernel points and MLP.

    One block, for a point ``i`` and its neighbors ``j``, where ``n`` is the
    kernel point nearest to ``x_j - x_i`` (``BN``: batch normalization, ``act``:
    the activation, ``<*>``: one modulation for ``G`` consecutive channels)::

        a_i   = sigmoid(act(BN(f_i Phi + phi)) Psi + psi)      (mq, D / G)
        h_ij  = max(0, 1 - |x_j - x_i - q_n| / sigma)          (0 where missing)
        f~_i  = sum_j h_ij (a_i[n] <*> W[n]) * f_j
        h~_i  = act(BN(f~_i A~ + b~))                          (DH)
        h^_i  = act(BN(h~_i A^ + b^))                          (D)
        out_i = f_i + h^_i

    A padded point (no neighbor present) gives zeros and stays out of the
    statistics of BN; what its coordinates and features hold is never read.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors, ``D`` channels, ``M``
    centers (``R`` unless `strided`), ``n_x`` 2 or 3.

    Args:
        blocks: Number of blocks, at least 1.
        drop_path: Probability in [0, 1] that a sample skips a block's ``h^`` in
            training; kept ones are divided by ``1 - drop_path`` so that the
            expectation stays. 1 leaves the residual alone. Inference drops
            nothing.
        sigma: Influence distance, in the unit of X (meters). Positive.
        shell_radii: See `FibonacciShellInitializer`.
        shell_points: See `FibonacciShellInitializer`.
        DH: Hidden channels of the MLP, usually ``4 D``.
        groups: ``G``, the channels that share a modulation. Divides ``D``.
        deformable: True lets the kernel points learn.
        initializer: For every tensor of weights, each block drawn anew. None:
            Glorot uniform for matrices, zeros for vectors.
        regularizer: For every tensor of weights but Q.
        constraint: For every tensor of weights but Q.
        bn_momentum: Momentum of the normalizations, in [0, 1). Their epsilon
            is 1e-5, as in the paper's code (Keras has 0.99 and 1e-3).
        bn_phi: List of `blocks` BatchNormalization layers; None makes them.
        bn_htilde: As `bn_phi`, after A~.
        bn_hhat: As `bn_phi`, after A^.
        activation: A layer, a name, a function, or the negative slope of a
            LeakyReLU. The default's slope is 0.3; the paper's code has 0.1.
        built_Q, built_W, built_Phi, built_phi, built_Psi, built_psi,
        built_Atilde, built_btilde, built_Ahat, built_bhat: Accepted so that
            VL3D's configurations load, and ignored: properties tell.
        order: "vl3d" as above. "apple": ``f~`` goes through BN and act;
            ``a = sigmoid(act(f Phi + phi) Psi)``; ``h^`` has no act of its own,
            and ``out = act(f + h^)``.
        modulation_norm: True normalizes the logits of each kernel point before
            the sigmoid (mean 0, variance 1, then a gain and a bias).
        output_channels: Channels of the last block's output; its residual goes
            through a linear shortcut where they differ from ``D``.
        strided: True takes centers apart from the support points. The residual
            and ``a`` then start from the maximum over the neighbors' features.
            Needs ``blocks=1``.
        influence: "linear", "constant" or "gaussian", see `kernel_influence`.
        attention: False is the depthwise form, ``a = 1``.

    Call arguments:
        inputs: ``[X, F, N]``: ``(B, R, n_x)`` float meters, ``(B, R, D)`` float,
            ``(B, R, K)`` int rows of X, missing outside ``[0, R)``; a real
            point lists itself. Or ``[X, F, N, nearest, influence]``, what
            `KernelGeometryLayer` returns. Strided: N is ``(B, M, K)`` and the
            centers ``(B, M, n_x)`` follow it in the first form.
        training: Normalize by the batch, and drop paths.
        mask: Ignored.

    Returns:
        ``(B, M, D)`` float, or `output_channels` in place of ``D``.

    Raises:
        DeepLearningException: An argument or a shape is out of its range.

    Source:
        Thomas et al., *KPConvX* (2024), https://arxiv.org/abs/2405.13194, in
        the order of VL3D's layer; its ``A~`` is (D, DH). Normalizing by real
        points only is ours.
    """

    def __init__(
        self,
        blocks=1,
        drop_path=0,
        sigma=1.0,
        shell_radii=[0, 0.5, 1.0],
        shell_points=[1, 7, 13],
        DH=384,
        groups=8,
        deformable=False,
        initializer=None,
        regularizer=None,
        constraint=None,
        bn_momentum=0.9,
        bn_phi=None,
        bn_htilde=None,
        bn_hhat=None,
        activation=LEAKY_RELU,
        built_Q=False,
        built_W=False,
        built_Phi=False,
        built_phi=False,
        built_Psi=False,
        built_psi=False,
        built_Atilde=False,
        built_btilde=False,
        built_Ahat=False,
        built_bhat=False,
        *,
        order="vl3d",
        modulation_norm=False,
        output_channels=None,
        strided=False,
        influence="linear",
        attention=True,
        **kwargs,
    ):
        # Keras would cast coordinates to half precision with the features.
        super().__init__(autocast=False, **kwargs)
        self.Q_initializer = FibonacciShellInitializer(shell_radii, shell_points)
        self.shell_radii = self.Q_initializer.shell_radii
        self.shell_points = self.Q_initializer.shell_points
        self.mq = self.Q_initializer.mq
        self.blocks = blocks
        self.drop_path = drop_path
        self.sigma = sigma
        self.DH = DH
        self.groups = groups
        self.deformable = bool(deformable)
        self.initializer = initializer and keras.initializers.get(initializer)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)
        self.bn_momentum = bn_momentum
        self.order = order
        self.modulation_norm = bool(modulation_norm)
        self.output_channels = output_channels
        self.strided = bool(strided)
        self.influence = influence
        self.attention = bool(attention)
        self._check_arguments()
        self.activation = _activation_layer(activation, self.dtype_policy)
        self.sigmoid = keras.activations.sigmoid
        self.bn_phi = self._given_normalizations("bn_phi", bn_phi)
        self.bn_htilde = self._given_normalizations("bn_htilde", bn_htilde)
        self.bn_hhat = self._given_normalizations("bn_hhat", bn_hhat)
        self._given_bn = {
            name: None if layers is None else _serialized(layers)
            for name, layers in (
                ("bn_phi", self.bn_phi),
                ("bn_htilde", self.bn_htilde),
                ("bn_hhat", self.bn_hhat),
            )
        }
        self.bn_operator = None
        self.Q = self.W = self.Phi = self.phi = self.Psi = self.psi = None
        self.Atilde = self.btilde = self.Ahat = self.bhat = None
        self.Ahat_out = self.bhat_out = self.shortcut = None
        self.modulation_gain = self.modulation_bias = None
        self.seed_generator = (
            keras.random.SeedGenerator() if 0 < self.drop_path < 1 else None
        )

    def build(self, dim_in):
        shapes = self._check_shapes(dim_in)
        n_x, D = shapes[0][-1], shapes[1][-1]
        apple = self.order == "apple"
        blocks, width = self.blocks, self.mq * (D // self.groups)
        self.Q = self.add_weight(
            name="Q",
            shape=(self.mq, n_x),
            initializer=self.Q_initializer,
            dtype=coordinate_dtype(self),
            trainable=self.deformable,
            autocast=False,
        )
        self.W = self._add("W", (blocks, self.mq, D))
        if self.attention:
            self.Phi = self._add("Phi", (blocks, D, D))
            self.phi = self._add("phi", (blocks, D))
            self.Psi = self._add("Psi", (blocks, D, width))
            if not apple:
                self.psi = self._add("psi", (blocks, width))
                self.bn_phi = self._normalizations(self.bn_phi, [D] * blocks)
            if self.modulation_norm:
                self.modulation_gain = self._add("modulation_gain", (blocks, width), 1)
                self.modulation_bias = self._add("modulation_bias", (blocks, width), 0)
        if apple:
            self.bn_operator = self._normalizations(None, [D] * blocks)
        self.Atilde = self._add("Atilde", (blocks, D, self.DH))
        self.btilde = self._add("btilde", (blocks, self.DH))
        self.bn_htilde = self._normalizations(self.bn_htilde, [self.DH] * blocks)
        out = self.output_channels or D
        same = blocks if out == D else blocks - 1
        if same:
            self.Ahat = self._add("Ahat", (same, self.DH, D))
            self.bhat = self._add("bhat", (same, D))
        if out != D:
            self.Ahat_out = self._add("Ahat_out", (1, self.DH, out))
            self.bhat_out = self._add("bhat_out", (1, out))
            self.shortcut = self._add("shortcut", (1, D, out))
        widths = [D] * (blocks - 1) + [out]
        self.bn_hhat = self._normalizations(self.bn_hhat, widths)

    def call(self, inputs, training=False, mask=False):
        self._check_shapes([value.shape for value in inputs])
        X, F, N = inputs[:3]
        require_integers(self.name, N)
        F = ops.cast(F, self.compute_dtype)
        nearest, influence = self._geometry(X, N, inputs[3:])
        real = is_real(N, ops.shape(F)[1])  # (B, M)
        support = F
        if self.strided:
            F = _greatest(F, N)
        F = _cut(F, real)
        for block in range(self.blocks):
            geometry = N, nearest, influence
            F = self._block(block, F, support, geometry, real, training)
        return F

    def compute_output_shape(self, input_shape):
        shapes = self._check_shapes(input_shape)
        return (*shapes[2][:2], self.output_channels or shapes[1][-1])

    def get_config(self):
        return {
            **super().get_config(),
            "blocks": self.blocks,
            "drop_path": self.drop_path,
            "sigma": self.sigma,
            "shell_radii": list(self.shell_radii),
            "shell_points": list(self.shell_points),
            "DH": self.DH,
            "groups": self.groups,
            "deformable": self.deformable,
            "initializer": self.initializer
            and keras.initializers.serialize(self.initializer),
            "regularizer": keras.regularizers.serialize(self.regularizer),
            "constraint": keras.constraints.serialize(self.constraint),
            "bn_momentum": self.bn_momentum,
            **self._given_bn,
            "activation": keras.layers.serialize(self.activation),
            "order": self.order,
            "modulation_norm": self.modulation_norm,
            "output_channels": self.output_channels,
            "strided": self.strided,
            "influence": self.influence,
            "attention": self.attention,
        }

    @classmethod
    def from_config(cls, config):
        order = config.get("order", "vl3d")
        return cls(**{**config, "order": OLD_ORDERS.get(order, order)})

    def export_representation(self, dir_path, out_prefix=None, Wpast=None):
        """Write the kernel points and weights as files.

        Args:
            dir_path: Folder to write to.
            out_prefix: Prefix of the folder's name; None for none.
            Wpast: Earlier weights ``(blocks, mq, D)`` to compare with, or None.

        Raises:
            DeepLearningException: The layer is not built, or `Wpast` is not of
                the shape of W.
        """
        from pathlib import Path

        from vl3d_lite.kernels import export

        if not self.built:
            raise DeepLearningException(
                f"{self.name}: a layer has no kernel to export before it is built. "
                "Call it once."
            )
        past = None if Wpast is None else ops.convert_to_numpy(Wpast)
        if past is not None and past.shape != tuple(self.W.shape):
            raise DeepLearningException(
                f"{self.name}: `Wpast` must have the shape {tuple(self.W.shape)} of "
                f"W. Received: {past.shape}"
            )
        export.export_kernel(
            Path(dir_path),
            ops.convert_to_numpy(self.Q),
            ops.convert_to_numpy(self.W),
            name=self.name,
            sigma=self.sigma,
            shell_radii=list(self.shell_radii),
            shell_points=list(self.shell_points),
            out_prefix=out_prefix,
            past=past,
            extra={
                "groups": self.groups,
                "influence": self.influence,
                "deformable": self.deformable,
                "attention": self.attention,
            },
        )

    @property
    def built_Q(self):
        """True once Q exists; likewise for the tensors below."""
        return self.Q is not None

    @property
    def built_W(self):
        return self.W is not None

    @property
    def built_Phi(self):
        return self.Phi is not None

    @property
    def built_phi(self):
        return self.phi is not None

    @property
    def built_Psi(self):
        return self.Psi is not None

    @property
    def built_psi(self):
        return self.psi is not None

    @property
    def built_Atilde(self):
        return self.Atilde is not None

    @property
    def built_btilde(self):
        return self.btilde is not None

    @property
    def built_Ahat(self):
        return self.Ahat is not None or self.Ahat_out is not None

    @property
    def built_bhat(self):
        return self.bhat is not None or self.bhat_out is not None

    def _geometry(self, X, N, rest):
        """Compute, or take, nearest kernel points and influence."""
        if len(rest) == 2:
            nearest, influence = ops.cast(rest[0], "int32"), rest[1]
            present = is_present(N, X)
            nearest = ops.where(present, nearest, ops.zeros_like(nearest))
            influence = ops.where(present, influence, ops.zeros_like(influence))
        else:
            dtype = coordinate_dtype(self)
            X = ops.cast(X, dtype)
            centers = ops.cast(rest[0], dtype) if rest else X
            Q = ops.convert_to_tensor(self.Q)
            nearest, influence = kernel_geometry(
                X, N, centers, Q, self.sigma, self.influence
            )
        return nearest, ops.cast(influence, self.compute_dtype)

    def _block(self, block, F, support, geometry, real, training):
        apple, last = self.order == "apple", block == self.blocks - 1
        wide = last and self.shortcut is not None
        residual = self._linear(F, self.shortcut, None, 0) if wide else F
        if training and self.drop_path == 1:
            return self._activate(residual) if apple else residual
        modulations = self._modulations(block, F, real, training)
        weights = self._weight(self.W, block)
        H = kpconvx_operator(
            support if self.strided else F,
            *geometry,
            weights,
            modulations,
            finite=not self.strided,
        )
        if apple:
            H = self._activate(
                self._normalize(self.bn_operator, block, H, real, training)
            )
        H = self._linear(H, self.Atilde, self.btilde, block)
        H = self._activate(self._normalize(self.bn_htilde, block, H, real, training))
        if wide:
            H = self._linear(H, self.Ahat_out, self.bhat_out, 0)
        else:
            H = self._linear(H, self.Ahat, self.bhat, block)
        H = self._normalize(self.bn_hhat, block, H, real, training)
        if not apple:
            H = self._activate(H)
        if training and self.drop_path:
            H = self._drop(H)
        out = residual + H
        return _cut(self._activate(out) if apple else out, real)

    def _modulations(self, block, F, real, training):
        """Compute ``a``, ``(B, M, mq * D / G)`` in (0, 1), or None."""
        if not self.attention:
            return None
        hidden = self._linear(F, self.Phi, self.phi, block)
        if self.order == "vl3d":
            hidden = self._normalize(self.bn_phi, block, hidden, real, training)
        logits = self._linear(self._activate(hidden), self.Psi, self.psi, block)
        if self.modulation_norm:
            logits = self._normalize_modulations(block, logits)
        return self.sigmoid(logits)

    def _normalize_modulations(self, block, logits):
        *head, width = ops.shape(logits)
        split = ops.reshape(logits, (*head, self.mq, width // self.mq))
        split = ops.cast(split, coordinate_dtype(self))
        mean, variance = ops.moments(split, axes=-1, keepdims=True)
        split = (split - mean) * ops.rsqrt(variance + 1e-5)
        logits = ops.cast(ops.reshape(split, (*head, width)), self.compute_dtype)
        gain = self._weight(self.modulation_gain, block)
        return logits * gain + self._weight(self.modulation_bias, block)

    def _weight(self, stack, block):
        return ops.cast(ops.convert_to_tensor(stack)[block], self.compute_dtype)

    def _linear(self, values, matrix, vector, block):
        values = ops.matmul(values, self._weight(matrix, block))
        return values if vector is None else values + self._weight(vector, block)

    def _normalize(self, layers, block, values, real, training):
        values = layers[block](values, training=training, mask=real)
        return ops.cast(values, self.compute_dtype)

    def _activate(self, values):
        return ops.cast(self.activation(values), self.compute_dtype)

    def _drop(self, values):
        shape = (ops.shape(values)[0], 1, 1)
        drawn = keras.random.uniform(shape, seed=self.seed_generator)
        scale = ops.where(drawn >= self.drop_path, 1.0 / (1.0 - self.drop_path), 0.0)
        return values * ops.cast(scale, self.compute_dtype)

    def _add(self, name, shape, constant=None):
        """Add a stack of weights, one slice a block."""
        initializer = self.initializer
        if constant is not None:
            initializer = keras.initializers.Constant(constant)
        elif initializer is None:
            initializer = "glorot_uniform" if len(shape) == 3 else "zeros"
        return self.add_weight(
            name=name,
            shape=shape,
            initializer=_drawn_anew(initializer, offset=len(self.weights)),
            regularizer=self.regularizer,
            constraint=self.constraint,
            autocast=False,
        )

    def _normalizations(self, layers, widths):
        """Make and build the normalizations of every block."""
        if layers is None:
            layers = [
                keras.layers.BatchNormalization(
                    momentum=self.bn_momentum, epsilon=1e-5, dtype=self.dtype_policy
                )
                for _ in widths
            ]
        for layer, width in zip(layers, widths, strict=True):
            layer.build((None, None, width))
        return layers

    def _given_normalizations(self, name, layers):
        if layers is None:
            return None
        layers = [_layer(layer) for layer in layers]
        if len(layers) != self.blocks:
            raise DeepLearningException(
                f"{self.name}: `{name}` must hold one layer for each of "
                f"{self.blocks} blocks. Received: {len(layers)}"
            )
        return layers

    def _check_arguments(self):
        check_kernel(self.name, self.sigma, self.influence)
        for name in ("blocks", "DH", "groups", "output_channels"):
            value = getattr(self, name)
            if name == "output_channels" and value is None:
                continue
            whole = isinstance(value, Real) and int(value) == value
            if not whole or value < 1:
                self._refuse(name, "a whole number of at least 1", value)
            setattr(self, name, int(value))
        for name in ("drop_path", "bn_momentum"):
            if not isinstance(getattr(self, name), Real):
                self._refuse(name, "a number", getattr(self, name))
        if not 0 <= self.drop_path <= 1:
            self._refuse("drop_path", "a probability in [0, 1]", self.drop_path)
        if not 0 <= self.bn_momentum < 1:
            self._refuse("bn_momentum", "in [0, 1)", self.bn_momentum)
        if self.order not in ORDERS:
            self._refuse("order", f"one of {', '.join(ORDERS)}", self.order)
        if self.strided and self.blocks != 1:
            self._refuse("blocks", "1 where `strided` is True", self.blocks)

    def _refuse(self, name, expected, value):
        raise DeepLearningException(
            f"{self.name}: `{name}` must be {expected}. Received: {name}={value!r}"
        )

    def _check_shapes(self, shapes):
        """Return the input shapes as tuples, or complain.

        Raises:
            DeepLearningException: Their number, a rank or an axis is wrong.
        """
        shapes = [tuple(shape) for shape in as_shapes(shapes)]
        form = "[X, F, N, centers]" if self.strided else "[X, F, N]"
        counts = (4, 5) if self.strided else (3, 5)
        if len(shapes) not in counts or any(len(shape) != 3 for shape in shapes):
            raise DeepLearningException(
                f"{self.name}: inputs must be {form} or [X, F, N, nearest, influence], "
                f"each of rank 3. Received: {shapes}"
            )
        X, F, N, *rest = shapes
        trouble = None
        batches = {shape[0] for shape in shapes} - {None}
        if len(batches) > 1:
            trouble = "all inputs must hold as many fields"
        elif X[-1] not in (2, 3):
            trouble = "X must have 2 or 3 coordinates"
        elif F[-1] is None or F[-1] % self.groups:
            trouble = f"`groups` = {self.groups} must divide the channels of F"
        elif X[1] != F[1] and None not in (X[1], F[1]):
            trouble = "X and F must have as many points"
        elif not self.strided and N[1] != X[1] and None not in (N[1], X[1]):
            trouble = "N must have a row for each point of X"
        elif len(rest) == 2 and any(shape[1:] != N[1:] for shape in rest):
            trouble = "nearest and influence must have the shape of N"
        elif len(rest) == 1 and rest[0][1:] != (N[1], X[-1]):
            trouble = "centers must have a row for each of N and the coordinates of X"
        elif len(rest) == 2 and self.deformable:
            trouble = "a deformable kernel computes its own nearest and influence"
        if trouble:
            raise DeepLearningException(f"{self.name}: {trouble}. Received: {shapes}")
        return shapes


def _cut(values, real):
    return ops.where(real[..., None], values, ops.zeros_like(values))


def _greatest(features, neighbors):
    """Take the maximum over present neighbors, ``(B, M, C)``."""
    gathered = gather_neighbors(features, neighbors)
    present = is_present(neighbors, features)[..., None]
    lowest = ops.full_like(gathered, -np.inf)
    return ops.max(ops.where(present, gathered, lowest), axis=2)


def _activation_layer(value, dtype):
    if value is LEAKY_RELU:
        return keras.layers.LeakyReLU(dtype=dtype)
    if isinstance(value, int | float):
        return keras.layers.LeakyReLU(negative_slope=value, dtype=dtype)
    if isinstance(value, dict | keras.layers.Layer):
        return _layer(value)
    return keras.layers.Activation(value, dtype=dtype)


def _layer(value):
    """Return a layer, made from its configuration where it is one."""
    if not isinstance(value, dict):
        return value
    return keras.layers.deserialize({"module": "keras.layers", **value})


def _serialized(layers):
    return [keras.layers.serialize(layer) for layer in layers]


def _drawn_anew(initializer, offset):
    """Draw each slice of a stack on its own, with fans of a single slice.

    A seeded initializer gives the same values each time it is called, so each
    slice and each tensor gets a seed of its own.
    """

    def initialize(shape, dtype=None):
        slices = []
        for index in range(shape[0]):
            drawer = keras.initializers.get(initializer)
            if isinstance(drawer, keras.initializers.Initializer):
                config = drawer.get_config()
                if isinstance(config.get("seed"), int):
                    config["seed"] += 1000 * offset + index
                drawer = type(drawer).from_config(config)
            try:
                values = drawer(shape[1:], dtype=dtype)
            except ValueError as error:
                raise DeepLearningException(
                    f"`initializer` must draw vectors as well as matrices. "
                    f"Received: {initializer!r}, which says: {error}"
                ) from error
            slices.append(ops.convert_to_tensor(values))
        return ops.stack(slices)

    return initialize
