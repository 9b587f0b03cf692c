"""The number of steps from which a training is compiled."""

from vl3d_lite.model.compilation import steps_to_break_even
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.training.compilation import compiles


def spec_of(place, jit):
    return read_spec(place / "spec.yaml", [f"training.jit={jit}"]).spec


def test_training_compiles_from_so_many_steps(place):
    spec = spec_of(place, "auto")
    steps = steps_to_break_even(spec)
    assert not compiles(spec, steps - 1)
    assert compiles(spec, steps + 1)
    assert compiles(spec, 1, accelerator=True)
