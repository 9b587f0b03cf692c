"""Random weights, rotated inputs and a decoder layer in loops."""

import math

import keras
import numpy as np
from keras import ops

JAX = keras.backend.backend() == "jax"
KINDS = ["float32"] if JAX else ["float32", "float64"]
LIMITS = {"float32": 1e-5, "float64": 1e-12}
# Eager JAX compiles every operation again for every shape, for minutes in all.
GROUPS = ["C4", "D4"] if JAX else ["C1", "C2", "C4", "C8", "D1", "D4"]


def shake(layer, seed=0):
    """Draw every weight again, norms and biases included."""
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_weights:
        value = ops.convert_to_numpy(weight)
        weight.assign(value + 0.1 * rng.normal(size=value.shape))


def numpy_of(value):
    return ops.convert_to_numpy(value).astype("float64")


def call(layer, inputs, **more):
    """Call with arrays, floats in the layer's own type."""
    tensors = {
        name: ops.convert_to_tensor(
            value, dtype=layer.variable_dtype if value.dtype.kind == "f" else None
        )
        for name, value in inputs.items()
    }
    return numpy_of(layer(**tensors, **more))


def matrices(name):
    """The group's matrices in the plane, in the order of the layers."""
    turns = int(name[1:])
    result = []
    for mirror in range(2 if name[0] == "D" else 1):
        for turn in range(turns):
            angle = 2 * math.pi * turn / turns
            rotation = np.array(
                [
                    [math.cos(angle), -math.sin(angle)],
                    [math.sin(angle), math.cos(angle)],
                ]
            )
            result.append(rotation @ np.diag([1.0, -1.0 if mirror else 1.0]))
    return result


def find(elements, matrix):
    """Return the index of a matrix among the elements."""
    return next(i for i, own in enumerate(elements) if np.allclose(own, matrix))


def dense(kernel, name):
    """``W[(o, h), (i, k)] = kernel[o, i, h^-1 k]`` entry by entry."""
    elements = matrices(name)
    out, into, order = kernel.shape
    matrix = np.zeros((out * order, into * order))
    for h, left in enumerate(elements):
        for k, right in enumerate(elements):
            own = find(elements, left.T @ right)
            for o in range(out):
                for i in range(into):
                    matrix[o * order + h, i * order + k] = kernel[o, i, own]
    return matrix


def linear(x, kernel, bias, name):
    order = kernel.shape[-1]
    return x @ dense(kernel, name).T + np.repeat(bias, order)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(layer, query, memory, name, mask, positions=None, listed=None):
    """Attention of one field, pair by pair.

    Args:
        layer: Read for its weights.
        query: ``(T, D)``.
        memory: ``(S, D)``.
        name: Of the group.
        mask: ``(T, S)`` bool.
        positions: Of queries and tokens, or None.
        listed: For each query the tokens it may see, with repetitions; all by
            default.
    """
    elements = matrices(name)
    order, heads = len(elements), layer.num_heads
    multiplicity = layer.in_rep.multiplicity
    kernel, bias = numpy_of(layer.in_kernel), numpy_of(layer.in_bias)
    q, k, v = (
        linear(x, kernel[part], bias[part], name).reshape(-1, multiplicity, order)
        for x, part in zip(
            (query, memory, memory),
            (slice(n * multiplicity, (n + 1) * multiplicity) for n in range(3)),
            strict=True,
        )
    )
    context = np.zeros((len(query), multiplicity, order))
    size = multiplicity // heads
    for i in range(len(query)):
        tokens = list(range(len(memory))) if listed is None else list(listed[i])
        tokens = [j for j in tokens if j >= 0 and mask[i, j]]
        keys, values = [k[j] for j in tokens], [v[j] for j in tokens]
        if positions is not None:
            for place, j in enumerate(tokens):
                offset = positions[1][j] - positions[0][i]
                to_key, to_value = encode(layer, offset, elements)
                keys[place] = keys[place] + to_key
                values[place] = values[place] + to_value
        for head in range(heads if tokens else 0):
            own = slice(head * size, (head + 1) * size)
            logits = np.array([np.sum(q[i, own] * key[own]) for key in keys])
            logits = logits / math.sqrt(size * order)
            weights = np.exp(logits - logits.max())
            weights = weights / weights.sum()
            for weight, value in zip(weights, values, strict=True):
                context[i, own] += weight * value[own]
    out, shift = numpy_of(layer.out_kernel), numpy_of(layer.out_bias)
    return linear(context.reshape(len(query), -1), out, shift, name)


def encode(layer, offset, elements):
    """Return what an offset adds to key and value: two ``(multiplicity, |G|)``."""
    kernel, bias = numpy_of(layer.offsets.kernel), numpy_of(layer.offsets.bias)
    results = []
    for weights in (layer.position_key_kernel, layer.position_value_kernel):
        own = np.zeros((layer.in_rep.multiplicity, len(elements)))
        for h, matrix in enumerate(elements):
            rotated = np.array([*(matrix.T @ offset[:2]), *offset[2:]])
            hidden = gelu(rotated @ kernel / layer.position_scale + bias)
            own[:, h] = hidden @ numpy_of(weights)
        results.append(own)
    return results
