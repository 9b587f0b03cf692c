"""Arguments and input shapes of KPConvXLayer that are out of range."""

import pytest

from vl3d_lite.errors import DeepLearningException
from vl3d_lite.model.layers import KPConvXLayer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 0}, "`blocks` must be"),
        ({"blocks": 1.5}, "`blocks` must be"),
        ({"drop_path": 1.1}, r"`drop_path` must be a probability in \[0, 1\]"),
        ({"drop_path": -0.1}, "`drop_path`"),
        ({"drop_path": None}, "`drop_path` must be a number"),
        ({"sigma": 0}, "`sigma` must be positive"),
        ({"sigma": None}, "`sigma` must be positive"),
        ({"shell_points": [1, 7]}, "one entry for each shell"),
        ({"DH": 0}, "`DH` must be"),
        ({"groups": 0}, "`groups` must be"),
        ({"bn_momentum": 1}, "`bn_momentum` must be"),
        ({"bn_phi": []}, "`bn_phi` must hold one layer"),
        ({"order": "reverse"}, "`order` must be one of vl3d, apple"),
        ({"influence": "cubic"}, "`influence` must be one of"),
        ({"output_channels": 0}, "`output_channels` must be"),
        ({"strided": True, "blocks": 2}, "`blocks` must be 1 where `strided`"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, message):
    with pytest.raises(DeepLearningException, match=message):
        KPConvXLayer(**arguments)


@pytest.mark.parametrize(
    ("arguments", "shapes", "message"),
    [
        ({}, (2, 9, 3), "inputs must be"),
        ({}, [(2, 9, 3), (2, 9, 8)], "inputs must be"),
        ({}, [(2, 9, 3), (2, 9, 8), (1, 9, 4)], "same number of fields"),
        ({}, [(2, 9, 3), (2, 9, 8), (2, 9)], "inputs must be"),
        ({}, [(2, 9, 3), (2, 9, 8), (2, 9, 4), (2, 9, 3)], "inputs must be"),
        ({}, [(2, 9, 4), (2, 9, 8), (2, 9, 4)], "2 or 3 coordinates"),
        ({}, [(2, 9, 3), (2, 9, 12), (2, 9, 4)], "`groups` = 8 must divide"),
        ({}, [(2, 9, 3), (2, 8, 8), (2, 9, 4)], "same number of points"),
        ({}, [(2, 9, 3), (2, 9, 8), (2, 5, 4)], "a row for each point"),
        ({}, [(2, 9, 3), (2, 9, 8), *[(2, 9, 4)] * 2, (2, 9, 5)], "shape of N"),
        ({"deformable": True}, [(2, 9, 3), (2, 9, 8), *[(2, 9, 4)] * 3], "deformable"),
        (
            {"strided": True},
            [(2, 9, 3), (2, 9, 8), (2, 5, 4), (2, 6, 3)],
            "centers must",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_refused(arguments, shapes, message):
    layer = KPConvXLayer(**arguments)
    with pytest.raises(DeepLearningException, match=message):
        layer.compute_output_shape(shapes)
    with pytest.raises(DeepLearningException, match=message):
        layer.build(shapes)
