"""Clouds whose code 1 may hold vegetation."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vl3d_lite.guide.init.survey import Survey
from vl3d_lite.guide.init.unclear import group_lines, unclear_clouds, without_code_1

MONTPELLIER = Survey(
    path=Path("m.laz"),
    points=1000,
    corners=np.zeros((2, 3)),
    codes={1: 400, 2: 300, 5: 300},
    density=9,
    spread=(1, 20),
    nearest=0.2,
    levels=1,
    varying=(),
    constant=(),
    unusable=(),
    withheld=0,
    overlap=0,
    unclassified_on_ground=0.1,
)
DELFT = replace(MONTPELLIER, path=Path("d.laz"), codes={1: 410, 2: 390, 6: 200})


def test_code_1_is_unclear_where_it_is_large_and_no_vegetation_code_is_there():
    assert unclear_clouds([MONTPELLIER, DELFT]) == [DELFT]
    assert without_code_1(DELFT).codes == {2: 390, 6: 200}


@pytest.mark.parametrize(
    "changes",
    [{"codes": {1: 41, 2: 759, 6: 200}}, {"unclassified_on_ground": 0.7}],
    ids=["small", "on the ground"],
)
def test_code_1_is_clear_where_it_is_small_or_ground(changes):
    assert unclear_clouds([MONTPELLIER, replace(DELFT, **changes)]) == []


def test_code_1_is_clear_where_no_cloud_has_vegetation_codes():
    assert unclear_clouds([DELFT, DELFT]) == []


@pytest.mark.parametrize(
    ("names", "group"),
    [
        (["vegetation", "other"], {"classes": {"vegetation or other": 1}}),
        (["vegetation"], {"ignore": [1]}),
    ],
)
def test_the_entry_is_yaml_with_a_question(names, group):
    lines = group_lines("d.laz", 0.41, names)
    assert "Does code 1 hold vegetation here? 41% of the points" in lines[0]
    assert yaml.safe_load("\n".join(lines)) == [{"files": ["d.laz"], **group}]
