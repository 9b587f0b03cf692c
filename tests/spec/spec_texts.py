"""A spec to change in tests, and what the reader makes of it."""

from pathlib import Path

import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.spec.schema.spec import Spec

GOOD = """\
# a comment
seed: 7
classes:
  ground: 2
  vegetation: {codes: [3, 4, 5], output_code: 5}
  building: 6
clouds:
  train: [town.laz]
features: [height, intensity, {name: planarity, radii: [1, 2.5]}]
fields: {shape: cylinder, radius: 20, grid_size: 0.5}
model:
  stages:
    - {points: 4096, channels: 32}
    - {points: 1024, channels: 64}
training: {epochs: 20, learning_rate: 1e-3}
"""


def read(text, *overrides, **options):
    Path("a.yaml").write_text(text, encoding="utf-8")
    return read_spec("a.yaml", overrides, **options)


def errors_of(text, *overrides, **options):
    with pytest.raises(SpecError) as caught:
        read(text, *overrides, **options)
    assert caught.value.exit_code == 2
    return str(caught.value).split("\n")


def make_spec(**changes):
    return Spec.model_validate(
        {
            "classes": {"ground": 2, "other": [3, 4], "roof": {"codes": 6}}
            | {"other": {"codes": [3, 4], "output_code": 3}},
            "features": ["height"],
            "fields": {"radius": 20, "grid_size": 0.5},
            "model": {"stages": [{"points": 64, "channels": 16}] * 2},
            **changes,
        }
    )
