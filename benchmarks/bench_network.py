r"""The reference network compared with the literal form: speed, memory, compilation.

Run from the project root (about fifteen minutes on one core)::

    taskset -c 1 python -m benchmarks.bench_network
    taskset -c 1 python -m benchmarks.bench_network \
        --store benchmarks/results/network.md
    python -m benchmarks.bench_network --threads 2

Four levels of 4096/1024/256/64 points, 32/64/128/192 channels, 16 neighbors, KPConvX
blocks 1/1/2/1 (21 kernel points, 8 channels per modulation, hidden width 4 D), then
a GVA block per level (8 groups); 5 inputs, 4 classes, batches of 4 fields. *literal* is
the same network, weight for weight, as the papers write it and without XLA: geometry
computed in each block, modulated weights gathered per neighbor, keys and values
projected per neighbor. The logits of both forms are compared before the timing.
A step is forward, loss, gradients and AdamW. Steps take turns in one process
whose allocator returns no pages; memory and the time of a first call are measured in
separate processes. A point is one of the finest level.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from unittest import mock

from benchmarks.timing import (
    peak_megabytes,
    publish,
    ratio,
    restart_quietly,
    take_turns,
)

BATCH, FEATURES, CLASSES, NEIGHBORS = 4, 5, 4, 16
STAGES = ((4096, 32, 1), (1024, 64, 1), (256, 128, 2), (64, 192, 1))
SPACING = 0.5
FORMS = {
    "ours, XLA": ("ours", True),
    "ours, graph": ("ours", False),
    "literal, graph": ("literal", False),
}
# Speed relative to the literal form: minimum and goal.
TARGETS = {"training": (3.5, 4.8), "inference": (3.8, 5.3)}


def make_batch(stages=STAGES):
    """Fields on hilly ground; each level keeps every fourth point along a curve."""
    import numpy as np
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(0)
    inputs = {}
    side = SPACING * stages[0][0] ** 0.5
    fields = []
    for _ in range(BATCH):
        xyz = rng.uniform(-side / 2, side / 2, (stages[0][0], 3))
        xyz[:, 2] = np.sin(xyz[:, 0] / 5) + rng.exponential(0.3, len(xyz))
        cells = (xyz[:, :2] / SPACING + 512).astype(np.int64)
        code = sum(
            ((cells[:, axis] >> bit) & 1) << (2 * bit + axis)
            for bit in range(10)
            for axis in (0, 1)
        )
        fields.append(xyz[np.argsort(code)].astype("float32"))
    xyz = np.stack(fields)
    inputs["features"] = rng.normal(size=(*xyz.shape[:2], FEATURES)).astype("float32")

    def search(support, centers, count):
        pairs = zip(support, centers, strict=True)
        found = [cKDTree(field).query(to, count)[1] for field, to in pairs]
        return np.stack(found).reshape(BATCH, -1, count).astype("int32")

    for level in range(len(stages)):
        inputs[f"xyz_{level}"] = xyz
        inputs[f"neighbors_{level}"] = search(xyz, xyz, NEIGHBORS)
        if level + 1 < len(stages):
            coarse = xyz[:, ::4]
            inputs[f"down_{level}"] = search(xyz, coarse, 8)
            inputs[f"up_{level}"] = search(coarse, xyz, 1)
            xyz = np.ascontiguousarray(coarse)
    labels = rng.integers(0, CLASSES, (BATCH, stages[0][0])).astype("int32")
    return inputs, labels


def as_spec(stages=STAGES):
    """The stages in the form of a spec."""
    return [
        {"points": points, "channels": channels, "blocks": ["kpconvx"] * n + ["gva"]}
        for points, channels, n in stages
    ]


def build(form, jit, stages=STAGES):
    import keras

    from vl3d_lite.model import network
    from vl3d_lite.spec.schema.network import ModelSpec
    from vl3d_lite.training.joined_optimizer import JoinedOptimizer
    from vl3d_lite.training.losses import PointCrossEntropy

    keras.utils.set_random_seed(0)
    batch = make_batch(stages)[0]
    shapes = {name: (value.shape[1:], value.dtype) for name, value in batch.items()}
    with ExitStack() as stack:
        if form == "literal":
            from benchmarks.literal_layers import LiteralGVA, LiteralKPConvX

            for name, layer in (
                ("KPConvXLayer", LiteralKPConvX),
                ("GroupedVectorAttentionLayer", LiteralGVA),
            ):
                stack.enter_context(mock.patch.object(network, name, layer))
        model = network.build_network(
            ModelSpec.model_validate({"stages": as_spec(stages)}),
            shapes,
            n_classes=CLASSES,
            spacings=[SPACING * 2**level for level in range(len(stages))],
        )
    optimizer = keras.optimizers.AdamW(1e-3)
    if form == "ours":
        optimizer = JoinedOptimizer(optimizer)
    model.compile(optimizer, loss=PointCrossEntropy(), jit_compile=jit)
    # Built by its first step, an optimizer has Keras trace that step twice.
    model.optimizer.build(model.trainable_variables)
    return model


def calls(form, jit, stages=STAGES):
    """The training step and the inference of a form, and its model."""
    model = build(form, jit, stages)
    inputs, labels = make_batch(stages)
    return (
        lambda: model.train_on_batch(inputs, labels),
        lambda: model.predict_on_batch(inputs),
        model,
    )


def measure_alone(name, kind):
    """First call, and peak memory after three more, of one form."""
    train, infer, _ = calls(*FORMS[name])
    call = train if kind == "training" else infer
    before = peak_megabytes()
    begin = time.perf_counter()
    call()
    first = time.perf_counter() - begin
    for _ in range(3):
        call()
    return {"first": first, "peak": peak_megabytes(), "before": before}


def alone(name, kind):
    command = [sys.executable, "-m", "benchmarks.bench_network", "--alone", name, kind]
    command += ["--threads", str(threads_of(sys.argv))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def threads_of(argv):
    return int(argv[argv.index("--threads") + 1]) if "--threads" in argv else 1


def check_agreement(models):
    import numpy as np

    inputs, _ = make_batch()
    expected = models["ours, graph"].predict_on_batch(inputs)
    for name, model in models.items():
        model.set_weights(models["ours, graph"].get_weights())
        apart = np.abs(model.predict_on_batch(inputs) - expected).max()
        if apart > 1e-3 * np.abs(expected).max():
            raise AssertionError(f"{name} differs by {apart:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--store", type=Path)
    parser.add_argument("--alone", nargs=2)
    arguments = parser.parse_args()
    restart_quietly(arguments.threads)
    if arguments.alone:
        sys.stdout.write(json.dumps(measure_alone(*arguments.alone)) + "\n")
        return
    begin = time.perf_counter()
    made = {name: calls(*form) for name, form in FORMS.items()}
    check_agreement({name: call[2] for name, call in made.items()})
    parameters = made["ours, graph"][2].count_params()
    points = BATCH * STAGES[0][0]
    lines = [
        f"Threads: {arguments.threads}. {parameters:,} parameters, {points:,} points "
        f"per batch; medians of {arguments.rounds} rounds taken in turns. MB: peak of "
        "a process that does nothing else (imports take about 450).",
        "",
        "| | form | points/s | times the literal | first call, s | peak MB |",
        "|---|---|--:|--:|--:|--:|",
    ]
    breaks = []
    for index, kind in enumerate(("training", "inference")):
        turns = {name: call[index] for name, call in made.items()}
        seconds = take_turns(turns, arguments.rounds)
        single = {name: alone(name, kind) for name in FORMS}
        least, goal = TARGETS[kind]
        for name, spent in seconds.items():
            faster = ratio(seconds["literal, graph"], spent)
            note = f" (target {least}, goal {goal})" if name == "ours, XLA" else ""
            lines.append(
                f"| {kind} | {name} | {points / median(spent):,.0f} "
                f"| {faster:.2f}{note} | {single[name]['first']:.1f} "
                f"| {single[name]['peak']} |"
            )
        extra = single["ours, XLA"]["first"] - single["ours, graph"]["first"]
        saved = median(seconds["ours, graph"]) - median(seconds["ours, XLA"])
        steps = f"{extra / saved:.0f}" if saved > 0 else "never"
        breaks.append(f"{kind}: {extra:.1f} s more to compile, repaid after {steps}")
    lines += ["", "XLA against a graph, in batches: " + "; ".join(breaks) + "."]
    lines += ["", f"The run took {time.perf_counter() - begin:.0f} s."]
    command = f"python -m benchmarks.bench_network --threads {arguments.threads}"
    publish("The reference network", command, lines, arguments.store)


if __name__ == "__main__":
    main()
