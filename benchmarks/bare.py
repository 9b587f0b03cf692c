"""The network alone: a process that times its steps on request.

`bench_run` starts it and requests measurements before, between and after whole runs,
so that both are measured on the same machine in the same state. In between it waits
without processor time. It compiles once::

    python -m benchmarks.bare SPEC --threads 1 --rounds 8

prints a line of JSON when it is ready, and one for every line that it reads.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.timing import restart_quietly, take_turns


class Bare:
    """The process, as an object of the one that started it."""

    def __init__(self, spec: Path, threads: int, rounds: int):
        command = [sys.executable, "-m", "benchmarks.bare", str(spec)]
        command += ["--threads", str(threads), "--rounds", str(rounds)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._answer()

    def measure(self) -> dict:
        """Seconds of each call in each round, and the machine's ceilings."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        self.process.stdin.close()
        self.process.wait()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"benchmarks.bare ended with code {self.process.wait()}")
        return json.loads(line)


def run_calls(path: Path, threads: int):
    """Calls of the network of a run, on a batch of its first training cloud."""
    import tensorflow as tf

    from vl3d_lite.dataset.batches import FeatureScaling, TrainingBatches, batch_spec
    from vl3d_lite.dataset.files import prepare_file
    from vl3d_lite.model.network import build_network
    from vl3d_lite.prediction.inference import Inference
    from vl3d_lite.spec.reader import read_spec
    from vl3d_lite.training.loop import compile_model
    from vl3d_lite.training.losses import loss_weights

    loaded = read_spec(path)
    spec = loaded.spec
    cloud = prepare_file(loaded.clouds["train"][0], spec, threads)
    scaling = FeatureScaling.fit([cloud])
    source = TrainingBatches([cloud], spec, scaling).epoch(0)
    inputs, labels = next(source)
    source.close()
    model = build_network(
        spec.model,
        batch_spec(spec, len(scaling.names)),
        n_classes=len(spec.classes),
        spacings=spec.spacings,
    )
    steps = spec.training.epochs * spec.training.steps_per_epoch
    compile_model(model, spec, steps, loss_weights(spec, [cloud.labels]))
    view = Inference(model, spec).view(1)
    jit = spec.training.jit == "on"
    batch = {name: tf.constant(value) for name, value in inputs.items()}
    truth = tf.constant(labels)

    @tf.function(jit_compile=jit)
    def forward():
        return model.loss(truth, model(batch, training=True))

    @tf.function(jit_compile=jit)
    def gradients():
        with tf.GradientTape() as tape:
            loss = model.loss(truth, model(batch, training=True))
        variables = [variable.value for variable in model.trainable_variables]
        return tape.gradient(loss, variables)

    calls = {
        "forward": lambda: forward().numpy(),
        "gradients": lambda: [tf.convert_to_tensor(g).numpy() for g in gradients()],
        "step": lambda: float(model.train_on_batch(inputs, labels)),
        "inference": lambda: view.predict_on_batch(inputs),
    }
    return calls, model.count_params()


def main() -> None:
    """Compile the network, then measure it for every line of the standard input."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("spec", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    restart_quietly(arguments.threads)
    from benchmarks.bench_network import STAGES
    from benchmarks.bench_network import calls as benchmark_calls
    from benchmarks.ceilings import ceilings
    from benchmarks.run_spec import stages_of

    begin = time.perf_counter()
    stages = stages_of(arguments.spec)
    train, infer, model = benchmark_calls("ours", stages == STAGES, stages)
    calls = {"benchmark's step": train, "benchmark's inference": infer}
    run, parameters = run_calls(arguments.spec, arguments.threads)
    calls |= run
    for call in calls.values():
        call()
    send(
        {
            "parameters": {"benchmark": model.count_params(), "run": parameters},
            "seconds": time.perf_counter() - begin,
        }
    )
    for _ in sys.stdin:
        send(
            {"seconds": take_turns(calls, arguments.rounds), "ceilings": ceilings()},
        )


def send(content: dict) -> None:
    """Write a line of JSON to the process that started this one."""
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
