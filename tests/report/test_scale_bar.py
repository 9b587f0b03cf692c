import pytest

from vl3d_lite.report.scale_bar import scale_bar


@pytest.mark.parametrize(
    ("width", "unit", "text", "share"),
    [
        (100, 1, "20 m", 0.2),
        (130, 1, "50 m", 50 / 130),
        (100, 0.3048, "100 ft", 0.3048),
        (0.05, 0.001, "20 mm", 0.4),
        (26, 1200 / 3937, "20 us-ft", 20 * 1200 / 3937 / 26),
        (5000, 1, "2000 m", 0.4),
    ],
)
def test_the_bar_is_a_round_length_in_the_unit_of_the_file(width, unit, text, share):
    bar = scale_bar(width, unit)
    assert bar.text == text
    assert bar.share == pytest.approx(share)
    assert bar.share <= 0.4 + 1e-9


def test_a_picture_without_extent_has_no_bar():
    assert scale_bar(0, 1) is None
