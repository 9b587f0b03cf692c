"""Class groups: merging classes of a trained run."""

from pathlib import Path

import numpy as np
import pytest

from vl3d_lite.errors import SpecError
from vl3d_lite.prediction.class_groups import group_classes, sum_groups
from vl3d_lite.spec.labels import cloud_labels
from vl3d_lite.spec.schema.spec import Spec

SPEC = Spec.model_validate(
    {
        "classes": {
            "ground": 2,
            "vegetation": {"codes": [3, 4, 5], "output_code": 5},
            "building": 6,
            "other": 1,
        },
        "features": ["height"],
        "fields": {"radius": 20, "grid_size": 0.5},
        "model": {"stages": [{"points": 64, "channels": 16}]},
        "training": {"class_weights": [1, 1, 2, 4]},
    }
)


def grouped(text):
    spec, groups = group_classes(SPEC, text)
    return (
        {name: (entry.codes, entry.code) for name, entry in spec.classes.items()},
        groups,
    )


def test_classes_are_merged_under_a_name_and_a_code():
    classes, groups = grouped("ground, above:31=vegetation + building+other")
    assert classes == {"ground": ([2], 2), "above": ([3, 4, 5, 6, 1], 31)}
    assert groups == [[0], [1, 2, 3]]


def test_a_group_without_a_code_takes_that_of_its_first_class():
    classes, groups = grouped("soil=ground,house=building,rest=other+vegetation")
    assert classes["rest"] == ([1, 3, 4, 5], 1)
    reordered, _ = grouped("soil=ground,house=building,rest=vegetation+other")
    assert reordered["rest"] == ([3, 4, 5, 1], 5)
    assert classes["soil"] == ([2], 2)
    assert groups == [[0], [2], [3, 1]]


def test_a_star_stands_for_all_classes_not_named():
    assert grouped("building, not_building:1=*") == (
        {"building": ([6], 6), "not_building": ([2, 3, 4, 5, 1], 1)},
        [[2], [0, 1, 3]],
    )


def test_other_keys_of_the_spec_do_not_change():
    spec, _ = group_classes(SPEC, "ground, above=*")
    assert spec.fields == SPEC.fields
    assert spec.model == SPEC.model
    assert spec.reject_code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ground", "Not in any: `vegetation`, `building`, `other`"),
        ("a=ground+vegetation+building+other", "at least two groups"),
        (
            "ground, above=vegetaton+*",
            r"no class `vegetaton`; did you mean `vegetation`\? It has: ground, veg",
        ),
        ("foo, b=*", r"no class `foo`\. It has: ground, vegetation, building, other$"),
        ("ground, above=vegetation+*", r"`\*` must stand alone"),
        ("a=*, b=*", r"`\*` must stand alone"),
        ("ground, a\x1b=*", "must be printable"),
        (f"a:{'1' * 5000}=*", "expected NAME"),
        ("ground, vegetation, building, other, x=*", "stands for no class"),
        ("ground, up=vegetation+ground+building+other", "`ground` is in two groups"),
        ("up=ground, up=*", "two groups are named `up`"),
        ("ground, up:six=*", "expected NAME"),
        ("ground, =*", "expected NAME"),
        ("ground,,above=*", "expected NAME"),
        ("ground, above:300=*", "less than or equal to 255"),
        ("ground, above:2=*", "code of class `ground`"),
    ],
)
def test_groups_that_do_not_fit_the_classes_are_refused(text, message):
    with pytest.raises(SpecError, match=message):
        group_classes(SPEC, text)


def test_probabilities_are_summed():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(4), 20)
    result = sum_groups(probabilities, [[0], [3, 1], [2]])
    for row, summed in zip(probabilities, result, strict=True):
        np.testing.assert_allclose(summed, [row[0], row[1] + row[3], row[2]], rtol=1e-6)
    assert result.dtype == np.float32


def test_groups_of_clouds_follow_the_groups_of_classes():
    content = SPEC.model_dump(exclude_unset=True)
    codes = {"vegetation or other": 1, "building": 9, "ground": []}
    group = {"files": ["/d.laz"], "classes": codes, "ignore": [4]}
    content["clouds"] = {"train": ["/m.laz", group]}
    spec = Spec.model_validate(content)
    for text, expected in {
        "soil=ground,high=vegetation+building,other": {
            "soil": [],
            "high": [3, 5, 9],
            "other": [],
            "high or other": [1],
        },
        "soil=ground,rest=*": {"soil": [], "rest": [3, 5, 9, 1]},
        "plant=vegetation,rest=*": {"plant": [3, 5], "rest": [9]},  # 1 may be any
    }.items():
        grouped, _ = group_classes(spec, text)
        found = cloud_labels(grouped, Path("/d.laz")).codes
        assert {name: sorted(own) for name, own in found.items()} == {
            name: sorted(own) for name, own in expected.items()
        }
        assert cloud_labels(grouped, Path("/m.laz")).codes == {
            **{name: [] for name in found},
            **grouped.class_codes,
        }
