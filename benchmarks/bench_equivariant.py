"""The equivariant decoder layer compared with those of PyTorch and symm-learning.

Run from the project root (about five minutes). PyTorch and symm-learning 0.8.1 (with
escnn, both on PyPI) are optional; missing ones are skipped. escnn imports py3nj,
which needs a Fortran compiler, and lie_learn, which needs NumPy 1, for continuous
groups only: `--stand-in` puts empty modules in their place::

    taskset -c 0 python -m benchmarks.bench_equivariant --stand-in
    taskset -c 0 python -m benchmarks.bench_equivariant --store results.md

All have the same width, heads, hidden channels and norms first; inference for the
forward, training without dropout for the step (the gradient of a weighted sum of the
outputs by weights and inputs). All are called in turns in one process; a ratio is the
median over rounds.
"""

import argparse
import importlib.abc
import importlib.machinery
import sys
import types
from pathlib import Path
from statistics import median

from benchmarks.timing import publish, ratio, restart_quietly, take_turns

WIDTH, QUERIES, TOKENS, HEADS = 256, 512, 128, 4
TARGETS = {"PyTorch, plain": 1.0, "symm-learning": 1 / 1.5}


def arrays(batch):
    """Queries, memory and the weights of the loss."""
    import numpy as np

    rng = np.random.default_rng(0)
    sizes = (QUERIES, TOKENS, QUERIES)
    return [rng.normal(size=(batch, n, WIDTH)).astype("float32") for n in sizes]


def ours(batch, group, hidden, jit):
    """Forward and step of our layer."""
    import tensorflow as tf

    from vl3d_lite.model.layers import EquivariantTransformerDecoderLayer, get_group

    layer = EquivariantTransformerDecoderLayer(
        (group, WIDTH // get_group(group).order),
        num_heads=HEADS,
        dim_feedforward=hidden,
        dropout=0.0,
    )
    tgt, memory, weights = map(tf.constant, arrays(batch))
    layer(tgt, memory)

    @tf.function(jit_compile=jit)
    def forward(tgt, memory):
        return layer(tgt, memory)

    @tf.function(jit_compile=jit)
    def step(tgt, memory):
        with tf.GradientTape() as tape:
            tape.watch([tgt, memory])
            total = tf.reduce_sum(layer(tgt, memory, training=True) * weights)
        variables = [variable.value for variable in layer.trainable_variables]
        return tape.gradient(total, [*variables, tgt, memory])

    return (
        lambda: forward(tgt, memory).numpy(),
        lambda: [gradient.numpy() for gradient in step(tgt, memory)],
        layer.count_params(),
    )


def torch_calls(layer, batch):
    """Forward and step of a PyTorch layer."""
    import torch

    tgt, memory, weights = map(torch.as_tensor, arrays(batch))

    def forward():
        layer.eval()
        with torch.no_grad():
            return layer(tgt, memory).numpy()

    def step():
        layer.train()
        inputs = [x.clone().requires_grad_(True) for x in (tgt, memory)]
        total = (layer(*inputs) * weights).sum()
        learned = [p for p in layer.parameters() if p.requires_grad]
        found = torch.autograd.grad(total, [*learned, *inputs], allow_unused=True)
        return [gradient.numpy() for gradient in found if gradient is not None]

    count = sum(p.numel() for p in layer.parameters() if p.requires_grad)
    return forward, step, count


def plain(batch, hidden):
    import torch

    return torch_calls(
        torch.nn.TransformerDecoderLayer(
            WIDTH,
            HEADS,
            dim_feedforward=hidden,
            dropout=0.0,
            activation=torch.nn.functional.gelu,
            batch_first=True,
            norm_first=True,
        ),
        batch,
    )


def symm_learning(batch, group, hidden):
    import torch
    from escnn.group import CyclicGroup, directsum
    from symm_learning.nn import eMultiheadAttention, eTransformerDecoderLayer

    torch.manual_seed(0)
    elements = CyclicGroup(int(group[1:]))
    representation = directsum(
        [elements.regular_representation] * (WIDTH // elements.order())
    )
    attention = [eMultiheadAttention(representation, num_heads=HEADS) for _ in range(2)]
    layer = eTransformerDecoderLayer(
        representation, *attention, dim_feedforward=hidden, dropout=0.0
    )
    return torch_calls(layer, batch)


def contestants(batch, group, hidden, threads):
    """Forward, step and parameters by name, of the installed packages."""
    calls = {"ours, XLA": ours(batch, group, hidden, jit=True)}
    calls["ours, graph"] = ours(batch, group, hidden, jit=False)
    try:
        import torch
    except ImportError:
        return calls
    torch.set_num_threads(threads)
    calls["PyTorch, plain"] = plain(batch, hidden)
    try:
        calls["symm-learning"] = symm_learning(batch, group, hidden)
    except ImportError as error:
        sys.stderr.write(f"without symm-learning: {error}\n")
    return calls


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Empty modules for imports of escnn that finite groups do not use."""

    names = ("py3nj", "lie_learn")

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: None
        return module

    def exec_module(self, module):
        pass


def rows(batch, group, hidden, threads, rounds):
    """Lines of the table for one case."""
    calls = contestants(batch, group, hidden, threads)
    forward = take_turns({name: call[0] for name, call in calls.items()}, rounds)
    step = take_turns({name: call[1] for name, call in calls.items()}, rounds)
    lines = []
    for name, (_, _, count) in calls.items():
        cells = [f"{count:,}"]
        for seconds in (forward, step):
            cells.append(f"{1e3 * median(seconds[name]):.1f}")
            for base in TARGETS:
                if base not in seconds:
                    cells.append("")
                    continue
                cells.append(f"{ratio(seconds[name], seconds[base]):.2f}")
        lines.append(f"| {group}, {batch}, {hidden} | {name} | {' | '.join(cells)} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--hidden", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--groups", nargs="+", default=["C4"])
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--stand-in", action="store_true")
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    restart_quietly(arguments.threads)
    if arguments.stand_in:
        sys.meta_path.insert(0, StandIn())
    lines = [
        f"Threads: {arguments.threads}. D={WIDTH}, T={QUERIES}, S={TOKENS}, {HEADS} "
        f"heads, float32; medians of {arguments.rounds} rounds taken in turns. PT: "
        "PyTorch; SL: symm-learning. Targets of ours, XLA: "
        f"{' and '.join(f'{most:.2f} of {base}' for base, most in TARGETS.items())}.",
        "",
        "| group, fields, hidden | layer | weights | forward ms | of PT | of SL "
        "| step ms | of PT | of SL |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for group in arguments.groups:
        for hidden in arguments.hidden:
            lines += rows(
                arguments.batch, group, hidden, arguments.threads, arguments.rounds
            )
    command = "taskset -c 0 python -m benchmarks.bench_equivariant --stand-in"
    publish("The equivariant decoder layer", command, lines, arguments.store)


if __name__ == "__main__":
    main()
