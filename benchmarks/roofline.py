"""Least time of the parts of a network, from counts and measured ceilings.

Counted from the formulas of `vl3d_lite.model.cost`, as in `bench_layers`:

- *operations*: two for every weight and point it is used at, forward;
- *gathered*: the values that a layer has for each neighbor, read once;
- *passed*: the values that a layer has for each point, read or written once.

A backward pass needs the operations twice (for the gradients of inputs and of
weights), the gathers twice (for the gradient of the other factor, and for the sum), and
passes over the tensors once. The optimizer reads a weight, its gradient and two
moments, and writes all but the gradient. Inference is a forward pass without stored
values and has the same roofline; XLA may be below it because it fuses layers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vl3d_lite.model.cost import LayerCost

FLOAT = 4  # bytes
ADAMW = 7  # values read or written per weight


@dataclass(frozen=True)
class Work:
    """The work of a part of a step on a batch.

    Attributes:
        operations: Additions and multiplications.
        gathered: Bytes of rows gathered.
        passed: Bytes of tensors read or written in order.
    """

    operations: float
    gathered: float
    passed: float

    def times(self, products: float, gathers: float, passes: float) -> "Work":
        """This work with its operations, gathers and passes multiplied."""
        return Work(
            products * self.operations, gathers * self.gathered, passes * self.passed
        )

    def floor(self, rates: dict[str, float]) -> float:
        """Least seconds at the rates of `benchmarks.ceilings`."""
        return (
            self.operations / rates["product"]
            + self.gathered / rates["gather"]
            + self.passed / rates["copy"]
        )


def forward_work(
    costs: Iterable[LayerCost], points: list[int], neighbors: list[int], batch: int
) -> Work:
    """The work of a forward pass.

    Args:
        costs: Layers, as `vl3d_lite.model.cost.network_cost` returns them.
        points: Points of a field at each stage.
        neighbors: Neighbors of a point at each stage.
        batch: Number of fields.
    """
    operations = gathered = passed = 0.0
    for cost in costs:
        rows = batch * points[cost.stage]
        operations += 2 * cost.parameters * rows
        gathered += FLOAT * cost.per_neighbor * rows * neighbors[cost.stage]
        passed += FLOAT * cost.per_point * rows
    return Work(operations, gathered, passed)


def network_work(forward: Work, parameters: int) -> dict[str, Work]:
    """The work of each part of a training step, and of an inference."""
    return {
        "forward": forward,
        "backward": forward.times(2, 2, 1),
        "optimizer": Work(12 * parameters, 0, FLOAT * ADAMW * parameters),
        "inference": forward,
    }
