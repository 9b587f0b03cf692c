"""The least time that a network's parts can take, from counts and measured ceilings.

Counted from the formulas of `vl3d_lite.model.cost`, as in `bench_layers`:

- *operations*: two for every weight and point it is used at, forward;
- *gathered*: the numbers that a layer holds for each neighbor, read once;
- *read or written*: the numbers that a layer holds for each point, once.

A backward pass makes the operations twice (for the gradients of inputs and of
weights), gathers twice (for the gradient of the other factor, and adding up), and
passes over the tensors once. The optimizer reads a weight, its gradient and two
moments, and writes all but the gradient. Inference is a forward that need hold
nothing for a gradient, and is held against the same floor: XLA may be below it where
it joins layers.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vl3d_lite.model.cost import LayerCost

FLOAT = 4  # bytes
ADAMW = 7  # numbers read or written for a weight


@dataclass(frozen=True)
class Work:
    """What a part of a step does to a batch.

    Attributes:
        operations: Additions and multiplications.
        gathered: Bytes of rows gathered.
        passed: Bytes of tensors read or written in order.
    """

    operations: float
    gathered: float
    passed: float

    def times(self, products: float, gathers: float, passes: float) -> "Work":
        """So many times its operations, gathers and passes."""
        return Work(
            products * self.operations, gathers * self.gathered, passes * self.passed
        )

    def floor(self, rates: dict[str, float]) -> float:
        """Least seconds, at ceilings as `bench_layers.ceilings` tells them."""
        return (
            self.operations / rates["product"]
            + self.gathered / rates["gather"]
            + self.passed / rates["copy"]
        )


def forward_work(
    costs: Iterable[LayerCost], points: list[int], neighbors: list[int], batch: int
) -> Work:
    """What a forward pass does.

    Args:
        costs: Of the layers, as `vl3d_lite.model.cost.network_cost` gives them.
        points: Of each stage in a field.
        neighbors: Of a point of each stage.
        batch: Fields.
    """
    operations = gathered = passed = 0.0
    for cost in costs:
        rows = batch * points[cost.stage]
        operations += 2 * cost.parameters * rows
        gathered += FLOAT * cost.per_neighbor * rows * neighbors[cost.stage]
        passed += FLOAT * cost.per_point * rows
    return Work(operations, gathered, passed)


def network_work(forward: Work, parameters: int) -> dict[str, Work]:
    """What each part of a training step, and an inference, does."""
    return {
        "forward": forward,
        "backward": forward.times(2, 2, 1),
        "optimizer": Work(12 * parameters, 0, FLOAT * ADAMW * parameters),
        "inference": forward,
    }
