"""The KPConvX operator and the TORF tail compared with other implementations.

Run from the project root (about eight minutes; PyTorch is optional)::

    taskset -c 1 python -m benchmarks.bench_layers
    taskset -c 1 python -m benchmarks.bench_layers --store benchmarks/results/layers.md
    python -m benchmarks.bench_layers --threads 2

The operator is the modulation MLP and the sum over neighbors, from features to
features; nearest kernel point and influence are inputs of all forms. *ours* is the
factored form of the layer; *literal* gathers modulated weights per neighbor, as in the
published formula, in Keras and in PyTorch. All forms take turns in one process whose
allocator returns no pages; a ratio is the median over rounds.

The roofline counts the work that every form needs: products of the MLP at the measured
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

from benchmarks.ceilings import ceilings
from benchmarks.operator_forms import (
    GROUPS,
    check_agreement,
    factored,
    keras_calls,
    literal,
    make_case,
    torch_calls,
)
from benchmarks.timing import publish, ratio, restart_quietly, take_turns

CASES = [
    (4, 2048, 16, 64, 21),
    (4, 2048, 16, 64, 43),
    (4, 2048, 32, 64, 21),
    (4, 512, 16, 128, 21),
    (4, 512, 16, 128, 43),
]
TAIL = (8192, 16, 8, 8)
# Shares of the time of the PyTorch form: forward and step under XLA, then without.
TARGETS = {64: (0.2, 0.3, 0.35, 0.6), 128: (0.25, 0.35, 0.4, 0.65)}


def roofline(case, rates):
    """Least seconds of a forward pass and of a step; see the module."""
    batch, rows, count, channels, points = case
    centers, width = batch * rows, points * channels // GROUPS
    products = 2 * centers * channels * (channels + width) / rates["product"]
    row = channels + channels + channels // GROUPS
    gathers = 4 * centers * count * row / rates["gather"]
    once = centers * (2 * channels + 2 * width + channels + 3 * count)
    tensors = 4 * once / rates["copy"]
    return products + gathers + tensors, 3 * products + 3 * gathers + 2 * tensors


def tail_calls(jit):
    """The TORF layer and the four operations it replaces, forward and step."""
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
    """Temporary buffers of a compiled forward pass in MB, as XLA reports them."""
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
        form = {"ours": factored, "literal": literal}[name]
        keras_calls(form, make_case(*CASES[0]), jit=True)[0]()


def measure_operator(case, threads, rounds):
    data = make_case(*case)
    calls = {
        "ours, XLA": keras_calls(factored, data, jit=True),
        "ours, graph": keras_calls(factored, data, jit=False),
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
        f"| TORF tail at {TAIL} | layer ms | quartet ms, same mode | ratio "
        "| of quartet in graph |",
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
