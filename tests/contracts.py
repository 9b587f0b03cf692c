"""The contract of every layer, on every backend.

`inputs` is what the layer is called with: a list (``layer(inputs)``), a tuple
(``layer(*inputs)``) or a dict (``layer(**inputs)``) of NumPy arrays. All
results are NumPy arrays.
"""

import functools
import os

import keras
import numpy as np
import pytest
from keras import ops

# On JAX a graph is what `jit` compiles; PyTorch runs eagerly.
MODES = {
    "tensorflow": ("eager", "graph", "jit"),
    "jax": ("eager", "jit"),
    "torch": ("eager",),
}[keras.backend.backend()]
HALF = ("mixed_float16", "mixed_bfloat16")
# Modes that a test meets one after another: the compiled ones share a trace.
MODE_GROUPS = [pytest.param(("eager",), id="eager")]
if MODES[1:]:
    MODE_GROUPS.append(pytest.param(MODES[1:], id="compiled", marks=pytest.mark.slow))


def slow_but(values, *quick):
    """Mark the values of a parametrization as slow, apart from the quick ones.

    Every layer meets all modes in its contract, so other tests need one quick mode.
    """
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.slow)
        for value in values
    ]


def apply(layer, inputs, **call):
    """Call the layer with a list, a tuple or a dict of inputs."""
    if isinstance(inputs, dict):
        return layer(**inputs, **call)
    if isinstance(inputs, tuple):
        return layer(*inputs, **call)
    return layer(inputs, **call)


def leaves(inputs):
    """List the arrays in `inputs`, in order."""
    return list(inputs.values()) if isinstance(inputs, dict) else list(inputs)


def rebuilt(inputs, values):
    """Put `values` in the places of `inputs`."""
    if isinstance(inputs, dict):
        return dict(zip(inputs, values, strict=True))
    return type(inputs)(values)


def is_float(value):
    return "float" in keras.backend.standardize_dtype(value.dtype)


def outputs_of(result):
    """Make one list of one output or many."""
    return list(result) if isinstance(result, list | tuple) else [result]


def numpy_of(value):
    return ops.convert_to_numpy(value)


def takes_training(layer):
    return layer._call_has_training_arg


def snapshot(layer):
    """Copy every variable of the layer, random states included."""
    return [numpy_of(variable.value).copy() for variable in layer.variables]


def restore(layer, values):
    for variable, value in zip(layer.variables, values, strict=True):
        variable.assign(value)


def run(layer, inputs, training=False, mode="eager"):
    """Run the layer and leave its variables as they were.

    Returns:
        The output, or a list of outputs.
    """
    return gradients(layer, inputs, training, mode, cotangents=None)[0]


def gradients(layer, inputs, training=False, mode="eager", cotangents="random"):
    """Differentiate the sum of output times cotangent.

    Args:
        layer: A layer; it is built when it is not.
        inputs: See the module.
        training: As in the layer's call.
        mode: One of `MODES`.
        cotangents: Arrays of the outputs' shapes; "random" draws them, always
            the same; None computes no gradients.

    Returns:
        ``(output, weight_gradients, input_gradients)``: the second a dict from
        weight path to array, the third a list with None for integers.
    """
    call = {"training": training} if takes_training(layer) else {}
    if not layer.built:
        apply(layer, inputs, **call)
    if not layer.trainable_weights and not any(map(is_float, leaves(inputs))):
        cotangents = None  # nothing to differentiate by
    before = snapshot(layer)
    backend = keras.backend.backend()
    function = {
        "tensorflow": _tensorflow_gradients,
        "jax": _jax_gradients,
        "torch": _torch_gradients,
    }[backend]
    output, by_weight, by_input = function(layer, inputs, call, mode, cotangents)
    restore(layer, before)
    output = [numpy_of(value) for value in output]
    by_weight = {
        weight.path: numpy_of(gradient)
        for weight, gradient in zip(layer.trainable_weights, by_weight, strict=True)
        if gradient is not None
    }
    by_input = iter([None if g is None else numpy_of(g) for g in by_input])
    by_input = [next(by_input) if is_float(leaf) else None for leaf in leaves(inputs)]
    return output[0] if len(output) == 1 else output, by_weight, by_input


def _loss(output, cotangents):
    """Sum float outputs times their cotangents, in their own type."""
    rng = np.random.default_rng(0)
    total = 0.0
    for index, value in enumerate(output):
        if isinstance(cotangents, str):
            weights = rng.normal(size=tuple(value.shape))
        else:
            weights = outputs_of(cotangents)[index]
        if is_float(value):
            total = total + ops.sum(value * ops.cast(weights, value.dtype))
    return total


def _fill(inputs, floats):
    """Put the float arrays back among the integer ones."""
    floats = iter(floats)
    values = [
        next(floats) if is_float(leaf) else ops.convert_to_tensor(leaf)
        for leaf in leaves(inputs)
    ]
    return rebuilt(inputs, values)


def _floats(inputs):
    return [ops.convert_to_tensor(leaf) for leaf in leaves(inputs) if is_float(leaf)]


def _tensorflow_gradients(layer, inputs, call, mode, cotangents):
    names = tuple(inputs) if isinstance(inputs, dict) else type(inputs)
    drawn = cotangents is None or isinstance(cotangents, str)
    given = [] if drawn else outputs_of(cotangents)
    step = {"eager": _eager_step, "graph": _graph_step, "jit": _jit_step}[mode](
        layer, names, call.get("training"), "none" if cotangents is None else len(given)
    )
    values = [ops.convert_to_tensor(leaf) for leaf in leaves(inputs)]
    return step(values, [ops.convert_to_tensor(value) for value in given])


def _eager_step(layer, names, training, count):
    """Make a function of the inputs and of `count` cotangents; 0 draws them."""
    import tensorflow as tf

    call = {} if training is None else {"training": training}

    def step(values, cotangents):
        floats = [value for value in values if is_float(value)]
        weights = [weight.value for weight in layer.trainable_weights]
        if isinstance(names, tuple):
            inputs = dict(zip(names, values, strict=True))
        else:
            inputs = names(values)
        with tf.GradientTape() as tape:
            tape.watch(floats)
            output = outputs_of(apply(layer, inputs, **call))
            if count == "none":
                return output, [None] * len(weights), [None] * len(floats)
            loss = _loss(output, cotangents if count else "random")
        by_weight, by_input = tape.gradient(loss, [weights, floats])
        dense = tf.convert_to_tensor
        by_weight = [None if g is None else dense(g) for g in by_weight]
        by_input = [None if g is None else dense(g) for g in by_input]
        return output, by_weight, by_input

    return step


# Calls with the same shapes share a trace, and so do both compiled modes. Keras, too,
# traces without AutoGraph.
@functools.lru_cache(maxsize=4)
def _graph_step(*key):
    import tensorflow as tf

    return tf.function(_eager_step(*key), autograph=False)


@functools.lru_cache(maxsize=4)
def _jit_step(*key):
    import tensorflow as tf

    step = _graph_step(*key)
    return tf.function(lambda *given: step(*given), autograph=False, jit_compile=True)


def _jax_gradients(layer, inputs, call, mode, cotangents):
    import jax

    others = [variable.value for variable in layer.non_trainable_variables]

    def loss(weights, floats):
        output, _ = layer.stateless_call(
            weights,
            others,
            *_positional(inputs, floats),
            **_named(inputs, floats),
            **call,
        )
        output = outputs_of(output)
        return (0.0 if cotangents is None else _loss(output, cotangents)), output

    def step(weights, floats):
        if cotangents is None:
            _, output = loss(weights, floats)
            return output, [None] * len(weights), [None] * len(floats)
        slopes, output = jax.grad(loss, argnums=(0, 1), has_aux=True)(weights, floats)
        return output, *slopes

    weights = [variable.value for variable in layer.trainable_variables]
    if mode == "eager":
        return step(weights, _floats(inputs))
    name = "jax_disable_most_optimizations"  # tests/conftest.py sets its variable
    jax.config.update(name, False)
    try:
        return jax.jit(step)(weights, _floats(inputs))
    finally:
        jax.config.update(name, os.environ.get(name.upper()) == "1")


def _positional(inputs, floats):
    filled = _fill(inputs, floats)
    if isinstance(filled, dict):
        return ()
    return filled if isinstance(filled, tuple) else (filled,)


def _named(inputs, floats):
    return _fill(inputs, floats) if isinstance(inputs, dict) else {}


def _torch_gradients(layer, inputs, call, mode, cotangents):
    import torch

    floats = [value.detach().requires_grad_(True) for value in _floats(inputs)]
    output = outputs_of(apply(layer, _fill(inputs, floats), **call))
    weights = [weight.value for weight in layer.trainable_weights]
    if cotangents is None:
        return output, [None] * len(weights), [None] * len(floats)
    slopes = torch.autograd.grad(
        _loss(output, cotangents), weights + floats, allow_unused=True
    )
    return output, slopes[: len(weights)], slopes[len(weights) :]


def assert_same(one, other, relative=1e-5):
    """Compare within `relative` of the largest absolute value."""
    for left, right in zip(outputs_of(one), outputs_of(other), strict=True):
        left, right = np.asarray(left, "float64"), np.asarray(right, "float64")
        scale = max(np.abs(right).max(initial=0.0), 1e-30)
        np.testing.assert_allclose(left, right, rtol=0, atol=relative * scale)


def assert_same_slopes(one, other, relative):
    """Compare each weight's gradient within `relative` of its own largest value.

    A gradient that is nothing but rounding, as of a bias before a normalization,
    is measured by a twentieth of the largest of all weights.
    """
    scale = max([np.abs(slope).max() for slope in other.values()] + [0.0])
    for path, slope in other.items():
        own = max(np.abs(slope).max(), scale / 20)
        np.testing.assert_allclose(
            one[path], slope, rtol=0, atol=relative * own, err_msg=path
        )


def assert_finite(values):
    for value in outputs_of(values):
        assert np.isfinite(np.asarray(value, "float64")).all()


def model_of(layer, inputs):
    """Wrap the layer in a model with an unknown batch size."""
    ports = [
        keras.Input(leaf.shape[1:], dtype=str(leaf.dtype)) for leaf in leaves(inputs)
    ]
    return keras.Model(ports, apply(layer, rebuilt(inputs, ports)))


def check_layer(
    layer, inputs, tmp_path, relative=1e-5, half=HALF, random=False, modes=MODES
):
    """Check the contract of every layer.

    The output's shape is the promised one; configurations make the round trip
    before and after `build`; a saved model loads with `safe_mode` on and gives
    equal outputs for an unknown batch size; eager, graph and `jit_compile`
    agree in outputs and gradients; gradients are finite; mixed precision is
    finite.

    Args:
        layer: A fresh layer, not built.
        inputs: See the module; float32 and int32 arrays with a batch axis.
        tmp_path: Folder for the saved model.
        relative: Required agreement, relative to the largest absolute value.
        half: The policies of mixed precision to check; none skips it.
        random: True for a layer that draws numbers in training, which XLA draws
            differently: modes are then compared in inference only.
        modes: Modes to compare, "eager" first; without it, eager outputs alone are
            compared.
    """
    check_form(layer, inputs, tmp_path, relative)
    check_modes(layer, inputs, relative, random, modes)
    check_half(layer, inputs, half)


def check_form(layer, inputs, tmp_path, relative=1e-5):
    """Check shapes, configurations, and outputs after saving and loading."""
    assert not layer.built
    kind = type(layer)
    assert kind.from_config(layer.get_config()).get_config() == layer.get_config()
    output = run(layer, inputs)
    shapes = rebuilt(inputs, [leaf.shape for leaf in leaves(inputs)])
    promised = _promised_shapes(layer, shapes)
    assert [value.shape for value in outputs_of(output)] == promised

    twin = kind.from_config(layer.get_config())
    assert twin.get_config() == layer.get_config()
    run(twin, inputs)
    twin.set_weights(layer.get_weights())
    assert_same(run(twin, inputs), output, relative)

    path = tmp_path / "layer.keras"
    model_of(layer, inputs).save(path)
    loaded = keras.saving.load_model(path, safe_mode=True)
    again = loaded([ops.convert_to_tensor(leaf) for leaf in leaves(inputs)])
    assert_same([numpy_of(value) for value in outputs_of(again)], output, relative)


def check_half(layer, inputs, half=HALF):
    """Check that outputs and gradients are finite in mixed precision."""
    for policy in half:
        mixed = type(layer).from_config({**layer.get_config(), "dtype": policy})
        # Eager JAX would compile every operation for the type.
        mode = "jit" if keras.backend.backend() == "jax" else "eager"
        values, by_weight, by_input = gradients(mixed, inputs, True, mode)
        assert_finite(values)
        assert_finite(list(by_weight.values()))
        assert_finite([slope for slope in by_input if slope is not None])


def _promised_shapes(layer, shapes):
    if isinstance(shapes, dict):
        promised = layer.compute_output_shape(
            **{f"{name}_shape": shape for name, shape in shapes.items()}
        )
    elif isinstance(shapes, tuple):
        promised = layer.compute_output_shape(*shapes)
    else:
        promised = layer.compute_output_shape(shapes)
    many = isinstance(promised[0], list | tuple)
    return [tuple(shape) for shape in promised] if many else [tuple(promised)]


def check_modes(layer, inputs, relative=1e-5, random=False, modes=MODES):
    """Check that eager, graph and jit agree and that every weight learns.

    A layer that runs the same in training and in inference, to the last bit of eager
    outputs and gradients, is compiled once.
    """
    flags = (True, False) if takes_training(layer) and not random else (False,)
    compiled = None
    for training in flags:
        first = gradients(layer, inputs, training, modes[0])
        if modes[0] == "eager" and _same_bits(first, compiled):
            continue
        compiled = first
        output, by_weight, by_input = first
        if modes[0] != "eager":  # its slopes would compile every operation
            assert_same(run(layer, inputs, training), output, relative)
        assert_finite(output)
        missing = {weight.path for weight in layer.trainable_weights} - set(by_weight)
        assert not missing, f"no gradient reaches {missing}"
        assert_finite(list(by_weight.values()))
        assert_finite([slope for slope in by_input if slope is not None])
        for mode in modes[1:]:
            other = gradients(layer, inputs, training, mode)
            assert_same(other[0], output, relative)
            assert_same_slopes(other[1], by_weight, 10 * relative)


def _same_bits(one, other):
    """Return whether two results of `gradients` are equal."""
    if other is None or one[1].keys() != other[1].keys():
        return False
    pairs = zip(
        [*outputs_of(one[0]), *one[1].values(), *one[2]],
        [*outputs_of(other[0]), *other[1].values(), *other[2]],
        strict=True,
    )
    return all(
        left is right is None or np.array_equal(left, right) for left, right in pairs
    )


def check_garbage(layer, clean, dirty, real, training, mode, relative=1e-5):
    """Check that values of padding do not affect the real points.

    Args:
        layer: A layer whose output is ``(B, M, C)``.
        clean: Inputs of one size.
        dirty: The same with NaN, 1e9 or other indices in padding; or
            with more missing neighbors.
        real: ``(B, M)`` bool, the points to compare.
        training: As in the layer's call.
        mode: One of `MODES`.
        relative: Required agreement.
    """
    size = outputs_of(run(layer, clean))[0].shape
    cotangent = np.random.default_rng(1).normal(size=size) * real[..., None]
    expected = gradients(layer, clean, training, mode, cotangents=[cotangent])
    received = gradients(layer, dirty, training, mode, cotangents=[cotangent])
    assert_finite(received[0])
    assert_same(received[0][real], expected[0][real], relative)
    assert received[1].keys() == expected[1].keys()
    assert_same_slopes(received[1], expected[1], relative)
    for slope, other in zip(expected[2], received[2], strict=True):
        if slope is not None:
            assert_finite(other)
            assert_same(other, slope, relative)
