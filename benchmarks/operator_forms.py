"""The KPConvX operator written in several ways, in Keras and in PyTorch.

`factored` is the form of the layer; `literal` gathers modulated weights for each
neighbor, as the published formula does. `bench_layers` times them.
"""

GROUPS = 8
SHELLS = {21: (1, 7, 13), 43: (1, 14, 28)}  # points of each shell by their number


def make_case(batch, rows, count, channels, points):
    """Arrays of a case: float32 and int32, with the geometry of the layer."""
    import numpy as np
    from scipy.spatial import cKDTree

    from vl3d_lite.model.layers import KernelGeometryLayer

    rng = np.random.default_rng(0)
    xyz = rng.uniform(0, 16, (batch, rows, 3)).astype("float32")
    xyz[..., 2] *= 0.1
    order = np.argsort(xyz[..., 0] // 2 * 100 + xyz[..., 1], axis=1)
    xyz = np.take_along_axis(xyz, order[..., None], axis=1)
    near = [cKDTree(field).query(field, count)[1] for field in xyz]
    neighbors = np.stack(near).astype("int32")
    layer = KernelGeometryLayer(
        sigma=1.0, shell_radii=[0, 0.5, 1.0], shell_points=SHELLS[points]
    )
    nearest, influence = (np.asarray(value) for value in layer([xyz, neighbors]))
    width = points * channels // GROUPS

    def draw(*shape):
        return (rng.normal(size=shape) / shape[0] ** 0.5).astype("float32")

    return {
        "fixed": (neighbors, nearest, influence),
        "learned": (
            rng.normal(size=(batch, rows, channels)).astype("float32"),
            draw(points, channels),
            draw(channels, channels),
            draw(channels),
            draw(channels, width),
            draw(width),
        ),
        "cotangent": rng.normal(size=(batch, rows, channels)).astype("float32"),
    }


def factored(neighbors, nearest, influence, features, weights, Phi, phi, Psi, psi):
    """The form of the layer, which never makes the modulated weights."""
    from keras import ops

    from vl3d_lite.model.layers.convolution.kpconvx_operator import kpconvx_operator

    hidden = ops.leaky_relu(ops.matmul(features, Phi) + phi, 0.1)
    modulations = ops.sigmoid(ops.matmul(hidden, Psi) + psi)
    return kpconvx_operator(
        features, neighbors, nearest, influence, weights, modulations, finite=True
    )


def literal(neighbors, nearest, influence, features, weights, Phi, phi, Psi, psi):
    """The published formula in Keras."""
    from keras import ops

    batch, rows, channels = features.shape
    points = weights.shape[0]
    hidden = ops.leaky_relu(ops.matmul(features, Phi) + phi, 0.1)
    modulations = ops.sigmoid(ops.matmul(hidden, Psi) + psi)
    modulations = ops.reshape(modulations, (batch, rows, points, -1, 1))
    modulated = modulations * ops.reshape(weights, (points, -1, GROUPS))
    table = ops.reshape(modulated, (batch * rows * points, channels))
    first = ops.reshape(ops.arange(batch * rows) * points, (batch, rows, 1))
    chosen = ops.take(table, nearest + first, axis=0)  # (B, R, K, D)
    start = ops.reshape(ops.arange(batch) * rows, (batch, 1, 1))
    flat = ops.reshape(features, (batch * rows, channels))
    gathered = ops.take(flat, neighbors + start, axis=0)
    return ops.sum(gathered * influence[..., None] * chosen, axis=2)


def literal_torch(neighbors, nearest, influence, features, weights, Phi, phi, Psi, psi):
    """The published formula in PyTorch."""
    import torch

    batch, rows, channels = features.shape
    points, count = weights.shape[0], neighbors.shape[-1]
    flat = features.reshape(-1, channels)
    hidden = torch.nn.functional.leaky_relu(flat @ Phi + phi, 0.1)
    modulations = torch.sigmoid(hidden @ Psi + psi).view(batch * rows, points, -1, 1)
    modulated = (modulations * weights.view(points, -1, GROUPS)).flatten(2)
    index = nearest.view(-1, count, 1).expand(-1, -1, channels)
    chosen = torch.gather(modulated, 1, index)  # (B R, K, D)
    start = (torch.arange(batch) * rows).view(-1, 1, 1)
    gathered = flat[(neighbors + start).view(-1)].view(-1, count, channels)
    weighted = gathered * influence.view(-1, count, 1) * chosen
    return weighted.sum(1).view(batch, rows, channels)


def keras_calls(function, case, jit):
    """The forward and the step of a Keras form, compiled."""
    import tensorflow as tf

    fixed = [tf.constant(value) for value in case["fixed"]]
    learned = [tf.Variable(value) for value in case["learned"]]
    cotangent = tf.constant(case["cotangent"])

    @tf.function(jit_compile=jit)
    def forward():
        return function(*fixed, *(value.read_value() for value in learned))

    @tf.function(jit_compile=jit)
    def step():
        with tf.GradientTape() as tape:
            values = [value.read_value() for value in learned]
            tape.watch(values)
            total = tf.reduce_sum(function(*fixed, *values) * cotangent)
        return tape.gradient(total, values)

    return lambda: forward().numpy(), lambda: [g.numpy() for g in map(dense, step())]


def dense(gradient):
    """A gradient as a dense tensor; gathers give sparse ones."""
    import tensorflow as tf

    return tf.convert_to_tensor(gradient)


def torch_calls(case, threads):
    """The forward and the step of the PyTorch form, or None without PyTorch."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(threads)
    neighbors, nearest, influence = map(torch.as_tensor, case["fixed"])
    fixed = neighbors.long(), nearest.long(), influence
    learned = [torch.tensor(value, requires_grad=True) for value in case["learned"]]
    cotangent = torch.as_tensor(case["cotangent"])

    def forward():
        with torch.no_grad():
            return literal_torch(*fixed, *learned).numpy()

    def step():
        total = (literal_torch(*fixed, *learned) * cotangent).sum()
        return [gradient.numpy() for gradient in torch.autograd.grad(total, learned)]

    return forward, step


def check_agreement(calls):
    """Check that all forms compute the same values.

    Raises:
        AssertionError: A form differs.
    """
    import numpy as np

    results = {name: (forward(), *step()) for name, (forward, step) in calls.items()}
    expected = results.pop("ours, graph")
    for name, values in results.items():
        for one, other in zip(values, expected, strict=True):
            apart = np.abs(one - other).max() / np.abs(other).max()
            if apart > 1e-4:
                raise AssertionError(
                    f"{name} differs by {apart:.1e}, relative to the largest"
                )
