"""A kernel for the tests to write."""

import numpy as np
import pytest


@pytest.fixture
def kernel():
    """Q (5, 3) and W (3, 5, 4); some weights are tiny, negative or large."""
    rng = np.random.default_rng(3)
    W = rng.normal(0, 0.2, (3, 5, 4)).astype(np.float32)
    W[0, 0] = [1e-9, -1e-9, 12345.678, -0.1234567]
    return rng.normal(0, 1, (5, 3)).astype(np.float32), W
