"""Class counts of training clouds, and classes without points."""

import logging
from pathlib import Path

import pytest

from vl3d_lite.dataset.class_counts import count_by_class, require_classes
from vl3d_lite.errors import DataError
from vl3d_lite.spec.schema.spec import Spec

SPEC = Spec.model_validate(
    {
        "classes": {"ground": 2, "green": {"codes": [3, 5], "output_code": 5}},
        "features": ["height"],
        "fields": {"radius": 5, "grid_size": 0.5},
        "model": {"stages": [{"points": 64, "channels": 8}]},
    }
)


def test_codes_add_up_to_classes():
    assert count_by_class(SPEC.class_codes, {2: 5, 3: 1, 5: 2, 9: 7}) == {
        "ground": 5,
        "green": 3,
    }


def test_good_counts_log_nothing(caplog):
    require_classes(SPEC, {Path("a.laz"): {2: 50, 5: 50, 7: 10}})
    assert not caplog.records


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (
            {Path("a.laz"): {2: 9}, Path("b.laz"): {7: 4}},
            r"b\.laz: no point.*4 of code 7",
        ),
        (
            {Path("a.laz"): {2: 9}, Path("b.laz"): {2: 4}},
            r"`green` \(codes \[3, 5\]\).*13 of code",
        ),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(counts, message):
    with pytest.raises(DataError, match=message):
        require_classes(SPEC, counts)


def test_what_is_odd_is_logged(caplog):
    with caplog.at_level(logging.WARNING):
        require_classes(
            SPEC, {Path("a.laz"): {2: 1, 5: 1, 8: 98}, Path("b.laz"): {2: 9}}
        )
    assert "b.laz: has no point of class `green`" in caplog.text
    assert "a.laz: only 2 % of the points" in caplog.text
