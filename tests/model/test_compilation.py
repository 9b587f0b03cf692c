"""The decision whether XLA pays."""

import pytest

from vl3d_lite.model.compilation import pays_to_compile
from vl3d_lite.spec.reader import read_spec

FEW, MANY, BREAK_EVEN = 100, 300, 200


def spec_of(place, jit):
    return read_spec(place / "spec.yaml", [f"training.jit={jit}"]).spec


@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("accelerator", [False, True])
@pytest.mark.parametrize("points", [FEW, MANY])
@pytest.mark.parametrize("jit", ["on", "off", "auto"])
def test_the_setting_counts_first_then_the_backend_then_the_size(
    place, jit, points, accelerator, backend
):
    expected = {
        "on": True,
        "off": False,
        "auto": backend != "torch" and (accelerator or points == MANY),
    }
    found = pays_to_compile(
        spec_of(place, jit),
        points,
        BREAK_EVEN,
        backend=backend,
        accelerator=accelerator,
    )
    assert found is expected[jit]
