"""Points of excluded codes that are a class in some clouds."""

from pathlib import Path

from tests.field_clouds import make_spec
from vl3d_lite.dataset.exclusion import exclusion_warning


def test_a_code_that_is_a_class_in_a_group_alone_is_reported_of_other_clouds():
    group = {"files": ["/a/*.laz"], "classes": {"vegetation": [5, 7]}}
    spec = make_spec(clouds={"train": [group, "/b/b.laz"]})
    assert exclusion_warning(spec, [Path("/a/a.laz")]) == ""
    reported = exclusion_warning(spec, [Path("/a/a.laz"), Path("/c/c.laz")])
    assert reported.startswith("code 7 is a class in a group of `clouds.train`")
    assert "1 clouds that are in no such group (/c/c.laz)" in reported


def test_codes_that_are_classes_everywhere_or_nowhere_are_not_reported():
    assert exclusion_warning(make_spec(), [Path("/c/c.laz")]) == ""
    group = {"files": ["/a/*.laz"], "classes": {"vegetation": [5, 9]}}
    spec = make_spec(clouds={"train": [group]})
    assert exclusion_warning(spec, [Path("/c/c.laz")]) == ""
