"""The KPConvX operator and the TORF tail against other ways to write them.

Run from the project root (about eight minutes; PyTorch is optional)::

    taskset -c 1 python -m benchmarks.bench_layers
    taskset -c 1 python -m benchmarks.bench_layers --store benchmarks/results/layers.md
    python -m benchmarks.bench_layers --threads 2

The operator is the modulation MLP and the sum over neighbors, from features to
features, with nearest kernel point and influence given to all. *ours* is the
layer's factored form; *literal* gathers modulated weights per neighbor, in Keras
as in PyTorch, from the published formula. All are called in turns in one process
with the allocator kept from returning pages; a ratio is the median over rounds.

The roofline counts what no form can avoid: products of the MLP at the measured
rate of a square float32 matrix product, rows gathered (a neighbor's features, kernel
weights, modulations) at the measured rate of a gather that sums, and tensors read
or written once at the measured rate of a copy. A step counts the products three
times, the gathers three times (forward, for the gradient of each factor, and adding
up the gradient of the features), the tensors twice.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.timing import publish, ratio, restart_quietly, take_turns

GROUPS = 8
SHELLS = {21: (1, 7, 13), 43: (1, 14, 28)}
CASES = [
    (4, 2048, 16, 64, 21),
    (4, 2048, 16, 64, 43),
    (4, 2048, 32, 64, 21),
    (4, 512, 16, 128, 21),
    (4, 512, 16, 128, 43),
]
TAIL = (8192, 16, 8, 8)
# Of the PyTorch form's time: forward and step under XLA, then without.
TARGETS = {64: (0.2, 0.3, 0.35, 0.6), 128: (0.25, 0.35, 0.4, 0.65)}


def make_case(batch, rows, count, channels, points):
    """Arrays of a case: float32 and int32, geometry computed by the layer."""
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


def ours(neighbors, nearest, influence, features, weights, Phi, phi, Psi, psi):
    from keras import ops

    from vl3d_lite.model.layers.convolution.kpconvx_operator import kpconvx_operator

    hidden = ops.leaky_relu(ops.matmul(features, Phi) + phi, 0.1)
    modulations = ops.sigmoid(ops.matmul(hidden, Psi) + psi)
    return kpconvx_operator(
        features, neighbors, nearest, influence, weights, modulations, finite=True
    )


def literal(neighbors, nearest, influence, features, weights, Phi, phi, Psi, psi):
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
    """Refuse to time forms that do not compute the same thing."""
    import numpy as np

    results = {name: (forward(), *step()) for name, (forward, step) in calls.items()}
    expected = results.pop("ours, graph")
    for name, values in results.items():
        for one, other in zip(values, expected, strict=True):
            apart = np.abs(one - other).max() / np.abs(other).max()
            if apart > 1e-4:
                raise AssertionError(f"{name} is off by {apart:.1e}")


def ceilings():
    """Rates of this machine now: operations, gathered and copied bytes a second."""
    import numpy as np
    import tensorflow as tf

    square = tf.random.normal((1024, 1024))
    table, large = tf.random.normal((8192, 64)), tf.random.normal((4 << 20,))
    rows = np.arange(8192)[:, None] + np.arange(-8, 8)  # near in memory, as sorted
    index = tf.constant(np.clip(rows, 0, 8191).astype("int32"))
    gather = tf.function(
        lambda: tf.reduce_sum(tf.gather(table, index), axis=1), jit_compile=True
    )
    copy = np.empty(4 << 20, "float32")
    source = large.numpy()
    seconds = take_turns(
        {
            "product": lambda: tf.matmul(square, square).numpy(),
            "gather": lambda: gather().numpy(),
            "copy": lambda: np.copyto(copy, source),
        },
        rounds=15,
    )
    return {
        "product": 2 * 1024**3 / min(seconds["product"]),
        "gather": 8192 * 16 * 64 * 4 / min(seconds["gather"]),
        "copy": 2 * copy.nbytes / min(seconds["copy"]),
    }


def roofline(case, rates):
    """Least seconds of a forward and a step; see the module."""
    batch, rows, count, channels, points = case
    centers, width = batch * rows, points * channels // GROUPS
    products = 2 * centers * channels * (channels + width) / rates["product"]
    row = channels + channels + channels // GROUPS
    gathers = 4 * centers * count * row / rates["gather"]
    once = centers * (2 * channels + 2 * width + channels + 3 * count)
    tensors = 4 * once / rates["copy"]
    return products + gathers + tensors, 3 * products + 3 * gathers + 2 * tensors


def tail_calls(jit):
    """The TORF layer and the quartet it stands for, forward and step."""
    import numpy as np
    import tensorflow as tf

    from vl3d_lite.model.layers import TORFGVALayer

    rng = np.random.default_rng(0)
    shapes = [TAIL[:3], TAIL, TAIL]
    inputs = [tf.Variable(rng.normal(size=s).astype("float32")) for s in shapes]
    layer = TORFGVALayer()

    def quartet(values):
        alpha, w, values = values
        spread = tf.expand_dims(alpha, -1)
        return tf.reduce_sum(tf.multiply(tf.multiply(spread, w), values), axis=1)

    def calls(function):
        @tf.function(jit_compile=jit)
        def forward():
            return function([value.read_value() for value in inputs])

        @tf.function(jit_compile=jit)
        def step():
            with tf.GradientTape() as tape:
                values = [value.read_value() for value in inputs]
                tape.watch(values)
                total = tf.reduce_sum(function(values) ** 2)
            return tape.gradient(total, values)

        return lambda: forward().numpy(), lambda: step()[0].numpy()

    return calls(layer), calls(quartet)


def temporaries(name):
    """MB of temporary buffers of a compiled forward, from XLA's own report."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.bench_layers", "--compile", name],
            check=True,
            env={
                **os.environ,
                "XLA_FLAGS": f"--xla_dump_to={folder} --xla_dump_hlo_as_text "
                "--xla_dump_hlo_module_re=.*forward.*",
            },
        )
        sizes = [
            int(size)
            for path in Path(folder).glob("*buffer-assignment.txt")
            for size in re.findall(
                r"^allocation \d+: size (\d+), preallocated-temp",
                path.read_text(encoding="utf-8"),
                re.MULTILINE,
            )
        ]
    return max(sizes, default=0) / 1e6


def compile_one(name):
    if name == "tail":
        tail_calls(jit=True)[0][0]()
    else:
        form = {"ours": ours, "literal": literal}[name]
        keras_calls(form, make_case(*CASES[0]), jit=True)[0]()


def measure_operator(case, threads, rounds):
    data = make_case(*case)
    calls = {
        "ours, XLA": keras_calls(ours, data, jit=True),
        "ours, graph": keras_calls(ours, data, jit=False),
        "literal, XLA": keras_calls(literal, data, jit=True),
        "literal, graph": keras_calls(literal, data, jit=False),
    }
    torch = torch_calls(data, threads)
    if torch:
        calls["PyTorch"] = torch
    check_agreement(calls)
    forward = take_turns({name: call[0] for name, call in calls.items()}, rounds)
    step = take_turns({name: call[1] for name, call in calls.items()}, rounds)
    return forward, step


def measure_tail(rounds):
    results = {}
    for jit in (True, False):
        layer, quartet = tail_calls(jit)
        for number, name in enumerate(("forward", "step")):
            turns = {"layer": layer[number], "quartet": quartet[number]}
            results[name, jit] = take_turns(turns, rounds)
    return results


def operator_rows(case, threads, rounds):
    """Lines of the table for one case."""
    forward, step = measure_operator(case, threads, rounds)
    rates = ceilings()
    floor = roofline(case, rates)
    base = "PyTorch" if "PyTorch" in forward else "literal, graph"
    _, rows, count, channels, points = case
    targets = TARGETS[channels]
    lines = []
    for name in forward:
        cells = []
        for kind, seconds in enumerate((forward, step)):
            spent = median(seconds[name])
            share = ratio(seconds[name], seconds[base])
            wanted = ""
            if name.startswith("ours"):
                wanted = f" ({targets[kind + 2 * name.endswith('graph')]:g})"
            cells += [f"{1e3 * spent:.1f}", f"{share:.2f}{wanted}"]
            cells += [f"{spent / floor[kind]:.1f}"]
        label = f"R={rows} K={count} D={channels} mq={points}"
        lines.append(f"| {label} | {name} | {' | '.join(cells)} |")
    return lines, rates


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--compile", choices=("ours", "literal", "tail"))
    arguments = parser.parse_args()
    restart_quietly(arguments.threads)
    if arguments.compile:
        return compile_one(arguments.compile)
    begin = time.perf_counter()
    lines = [
        f"Threads: {arguments.threads}. Milliseconds are medians of "
        f"{arguments.rounds} rounds taken in turns; B=4, G={GROUPS}; in parentheses "
        "the target. *of PyTorch*: the literal form in PyTorch, geometry given to "
        "all. *roofs*: times the roofline of the module's docstring.",
        "",
        "| operator | form | forward ms | of PyTorch | roofs "
        "| step ms | of PyTorch | roofs |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    found = []
    for case in CASES:
        rows, rates = operator_rows(case, arguments.threads, arguments.rounds)
        lines += rows
        found.append(rates)
    product, gather, copy = (
        max(rates[name] for rates in found) / 1e9 for name in found[0]
    )
    lines += [
        "",
        f"Ceilings, the best measured beside the cases: {product:.0f} Gflop/s, "
        f"{gather:.1f} GB/s gathered and summed, {copy:.1f} GB/s copied. Each case is "
        "held against the ceilings measured right after it.",
        "",
        "| compiled forward under XLA | temporaries, MB |",
        "|---|--:|",
        f"| ours, R=2048 K=16 D=64 mq=21 (target 20) | {temporaries('ours'):.1f} |",
        f"| literal, the same | {temporaries('literal'):.1f} |",
        f"| TORF tail, (B, K, G, d) takes 33.6 | {temporaries('tail'):.1f} |",
        "",
        f"| TORF tail at {TAIL} | layer ms | quartet ms, the same mode | ratio "
        "| of the quartet in a graph |",
        "|---|--:|--:|--:|--:|",
    ]
    results = measure_tail(arguments.rounds)
    for (name, jit), seconds in results.items():
        plain = results[name, False]["quartet"]
        lines.append(
            f"| {name}, {'XLA' if jit else 'graph'} "
            f"| {1e3 * median(seconds['layer']):.1f} "
            f"| {1e3 * median(seconds['quartet']):.1f} "
            f"| {ratio(seconds['layer'], seconds['quartet']):.2f} "
            f"| {median(seconds['layer']) / median(plain):.2f} |"
        )
    lines += ["", f"The run took {time.perf_counter() - begin:.0f} s."]
    command = f"python -m benchmarks.bench_layers --threads {arguments.threads}"
    publish("Layers", command, lines, arguments.store)


if __name__ == "__main__":
    main()
