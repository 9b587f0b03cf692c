"""Small clouds and specs for tests of fields and batches."""

import numpy as np

from vl3d_lite.clouds.cloud import PointCloud
from vl3d_lite.dataset.prepared import prepare_cloud
from vl3d_lite.spec.schema.spec import Spec

CYLINDER = {"shape": "cylinder", "radius": 4.0, "grid_size": 0.5}


def make_cloud(n=6000, seed=0, extent=20.0, origin=(0.0, 0.0, 0.0)):
    """A hilly square with some height, coordinates in whole millimeters."""
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(0, extent, (2, n))
    z = 2 + np.sin(x / 5) + np.where(rng.random(n) < 0.3, rng.uniform(0, 5, n), 0)
    return PointCloud(
        local=np.round(np.stack([x, y, z], axis=1), 3),
        origin=np.array(origin),
        attributes={"intensity": rng.integers(0, 900, n).astype(np.uint16)},
        labels=np.where(x < 2, -1, np.where(x + y < 8, 2, z > 4)).astype(np.int32),
        name="town.laz",
    )


def make_spec(fields=None, points=(400, 120, 40), neighbors=8, model=None, **others):
    stages = [
        {"points": p, "channels": 8, "neighbors": min(neighbors, p)} for p in points
    ]
    return Spec(
        classes={"ground": 2, "vegetation": 5, "building": 6},
        features=others.pop("features", ["intensity", "vertical"]),
        fields=CYLINDER if fields is None else fields,
        model={"stages": stages, **(model or {})},
        **others,
    )


def prepared(spec, **cloud):
    return prepare_cloud(make_cloud(**cloud), spec)
