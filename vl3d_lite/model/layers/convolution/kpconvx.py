"""KPConvX: a depthwise kernel point convolution with kernel attention."""

from pathlib import Path

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.kernels import export_kernel
from vl3d_lite.model.layers.convolution.fibonacci import FibonacciShellInitializer
from vl3d_lite.model.layers.convolution.kernel_geometry import coordinate_dtype
from vl3d_lite.model.layers.convolution.kpconvx_arguments import (
    LEAKY_RELU,
    OLD_ORDERS,
    activation_layer,
    check_kpconvx_arguments,
    check_kpconvx_shapes,
)
from vl3d_lite.model.layers.convolution.kpconvx_blocks import (
    KPConvXBlocks,
    neighbor_maximum,
    without_padding,
)
from vl3d_lite.model.layers.neighborhood import is_real, require_integers


def _exists(*names):
    """Make a property: True once the layer has one of these tensors."""

    def exists(self):
        return any(getattr(self, name) is not None for name in names)

    return property(exists)


@keras.saving.register_keras_serializable(package="vl3d_lite")
class KPConvXLayer(KPConvXBlocks):
    """Apply blocks of kernel point convolution, kernel attention and MLP.

    One block, for a point ``i`` and its neighbors ``j``, where ``n`` is the
    kernel point nearest to ``x_j - x_i`` (``BN``: batch normalization, ``act``:
    the activation, ``<*>``: one modulation for ``G`` consecutive channels)::

        a_i   = sigmoid(act(BN(f_i Phi + phi)) Psi + psi)      (mq, D / G)
        h_ij  = max(0, 1 - |x_j - x_i - q_n| / sigma)          (0 where missing)
        f~_i  = sum_j h_ij (a_i[n] <*> W[n]) * f_j
        h~_i  = act(BN(f~_i A~ + b~))                          (DH)
        h^_i  = act(BN(h~_i A^ + b^))                          (D)
        out_i = f_i + h^_i

    A padded point (no neighbor present) gets zeros and is not part of the
    statistics of BN; its coordinates and features have no effect.

    Shapes: ``B`` fields, ``R`` points, ``K`` neighbors, ``D`` channels, ``M``
    centers (``R`` unless `strided`), ``n_x`` coordinates, 2 or 3.

    Args:
        blocks: Number of blocks, at least 1.
        drop_path: Probability in [0, 1] that a sample skips ``h^`` of a block in
            training; the others are divided by ``1 - drop_path``, which keeps
            the expectation. 1 leaves the residual only. Inference drops none.
        sigma: Influence distance, in the unit of X (meters). Positive.
        shell_radii: See `FibonacciShellInitializer`.
        shell_points: See `FibonacciShellInitializer`.
        DH: Hidden channels of the MLP, usually ``4 D``.
        groups: ``G``, the channels that share a modulation. Divides ``D``.
        deformable: Whether the kernel points are trained.
        initializer: Initializer of every tensor of weights, drawn per block. None:
            Glorot uniform for matrices, zeros for vectors.
        regularizer: Regularizer of every tensor of weights but Q.
        constraint: Constraint of every tensor of weights but Q.
        bn_momentum: Momentum of the normalizations, in [0, 1). Their epsilon
            is 1e-5, as in the paper's code (Keras has 0.99 and 1e-3).
        bn_phi: List of `blocks` BatchNormalization layers; None for new ones.
        bn_htilde: As `bn_phi`, after A~.
        bn_hhat: As `bn_phi`, after A^.
        activation: A layer, a name, a function, or the negative slope of a
            LeakyReLU. The default has slope 0.3; the paper's code has 0.1.
        built_Q, built_W, built_Phi, built_phi, built_Psi, built_psi,
        built_Atilde, built_btilde, built_Ahat, built_bhat: Ignored;
            VL3D's configurations contain them. Read the properties instead.
        order: "vl3d" as above. "apple": BN and act follow ``f~``;
            ``a = sigmoid(act(f Phi + phi) Psi)``; no act follows ``h^``, and
            ``out = act(f + h^)``.
        modulation_norm: Whether to normalize the logits of each kernel point before
            the sigmoid (mean 0, variance 1, then a gain and a bias): over the
            ``D / G`` modulations of one point, not over points or fields.
        output_channels: Channels of the last block's output. Where they differ from
            ``D``, its residual has a linear shortcut.
        strided: Whether centers differ from the support points. The residual and
            ``a`` then use the maximum over the neighbors' features. Requires
            ``blocks=1``.
        influence: "linear", "constant" or "gaussian", see `kernel_influence`.
        attention: Whether to use kernel attention; ``a = 1`` without it.

    Call arguments:
        inputs: ``[X, F, N]``: ``(B, R, n_x)`` float in meters, ``(B, R, D)``
            float, ``(B, R, K)`` int, rows of X, missing outside ``[0, R)``; a
            real point lists itself. Or ``[X, F, N, nearest, influence]``, the
            last two from `KernelGeometryLayer`. Strided: N is ``(B, M, K)``, and
            the centers ``(B, M, n_x)`` follow it in the first form.
        training: Whether to normalize by the batch and drop paths.
        mask: Ignored.

    Returns:
        ``(B, M, D)`` float, or `output_channels` in place of ``D``.

    Raises:
        DeepLearningException: An argument or a shape is out of its range.

    Source:
        Thomas et al., *KPConvX* (2024), https://arxiv.org/abs/2405.13194, in
        the order of VL3D's layer, whose ``A~`` is (D, DH). Statistics over the
        real points alone are ours.
    """

    built_Q = _exists("Q")
    built_W = _exists("W")
    built_Phi = _exists("Phi")
    built_phi = _exists("phi")
    built_Psi = _exists("Psi")
    built_psi = _exists("psi")
    built_Atilde = _exists("Atilde")
    built_btilde = _exists("btilde")
    built_Ahat = _exists("Ahat", "Ahat_out")
    built_bhat = _exists("bhat", "bhat_out")

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
        check_kpconvx_arguments(self)
        self.activation = activation_layer(activation, self.dtype_policy)
        self.sigmoid = keras.activations.sigmoid
        self._set_normalizations(bn_phi=bn_phi, bn_htilde=bn_htilde, bn_hhat=bn_hhat)
        self.bn_operator = None
        self.Q = self.W = self.Phi = self.phi = self.Psi = self.psi = None
        self.Atilde = self.btilde = self.Ahat = self.bhat = None
        self.Ahat_out = self.bhat_out = self.shortcut = None
        self.modulation_gain = self.modulation_bias = None
        self.seed_generator = (
            keras.random.SeedGenerator() if 0 < self.drop_path < 1 else None
        )

    def build(self, dim_in):
        shapes = check_kpconvx_shapes(self, dim_in)
        n_x, D = shapes[0][-1], shapes[1][-1]
        apple = self.order == "apple"
        blocks, width = self.blocks, self.mq * (D // self.groups)
        # In the precision of the coordinates that it is compared with.
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
        check_kpconvx_shapes(self, [value.shape for value in inputs])
        X, F, N = inputs[:3]
        require_integers(self.name, N)
        F = ops.cast(F, self.compute_dtype)
        nearest, influence = self._geometry(X, N, inputs[3:])
        real = is_real(N, ops.shape(F)[1])  # (B, M)
        support = F
        if self.strided:
            F = neighbor_maximum(F, N)
        F = without_padding(F, real)
        for block in range(self.blocks):
            geometry = N, nearest, influence
            F = self._block(block, F, support, geometry, real, training)
        return F

    def compute_mask(self, *_):
        # The mask of the call is no mask of a sequence; Keras would warn of it.
        return None

    def compute_output_shape(self, input_shape):
        shapes = check_kpconvx_shapes(self, input_shape)
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
            **self._given_normalizations,
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
        """Write the kernel points and weights to files.

        Args:
            dir_path: Output folder.
            out_prefix: Beginning of every file name, without a folder, or None.
            Wpast: Earlier weights ``(blocks, mq, D)`` to compare with, or None.

        Raises:
            DeepLearningException: The layer is not built, `Wpast` is not of the
                shape of W, or `out_prefix` contains a folder.
        """
        if not self.built:
            raise DeepLearningException(
                f"{self.name}: the layer has no kernel before it is built. "
                "Call it once before you export it."
            )
        weights = ops.convert_to_numpy(self.W)
        past = None if Wpast is None else ops.convert_to_numpy(Wpast)
        if past is not None and past.shape != weights.shape:
            raise DeepLearningException(
                f"{self.name}: `Wpast` must have the shape {weights.shape} of "
                f"W. Received: {past.shape}"
            )
        facts = self.kernel_facts()
        geometry = ("sigma", "shell_radii", "shell_points")
        export_kernel(
            Path(dir_path),
            ops.convert_to_numpy(self.Q),
            weights,
            name=self.name,
            out_prefix=out_prefix,
            past=past,
            **{name: facts.pop(name) for name in geometry},
            extra=facts,
        )

    def kernel_facts(self):
        """Return the arguments that are exported with a kernel, by name."""
        return {
            "sigma": self.sigma,
            "shell_radii": list(self.shell_radii),
            "shell_points": list(self.shell_points),
            "groups": self.groups,
            "influence": self.influence,
            "deformable": self.deformable,
            "attention": self.attention,
        }
