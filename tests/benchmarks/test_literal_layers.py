"""The literal form of the reference network computes the same logits as ours."""

import numpy as np
import pytest

from benchmarks.bench_network import build, make_batch
from benchmarks.run_spec import QUICK


@pytest.mark.slow
def test_both_forms_of_the_network_agree():
    ours, literal = (
        build(form, jit=False, stages=QUICK) for form in ("ours", "literal")
    )
    literal.set_weights(ours.get_weights())
    inputs, _ = make_batch(QUICK)
    expected = ours.predict_on_batch(inputs)
    found = literal.predict_on_batch(inputs)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.abs(expected).max())
