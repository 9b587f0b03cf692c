"""Pages name files, never the folders of the machine."""

import pytest

from vl3d_lite.report.folders import without_folders


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/scans/a.laz", "…/a.laz"),
        ("train: [/home/me/train/*.laz, b.laz]", "train: […/*.laz, b.laz]"),
        ("- '/home/my scans/a.laz'", "- '…/my scans/a.laz'"),
        ("is a copy of /data/a.laz; leave", "is a copy of …/a.laz; leave"),
        ("scans/2024/a.laz", "scans/2024/a.laz"),
        ("../scans/a.laz", "../scans/a.laz"),
        ("https://example.org/a/b", "https://example.org/a/b"),
        ("12 points/m2, 1/2/3", "12 points/m2, 1/2/3"),
    ],
)
def test_folders_of_absolute_paths_are_left_out(text, expected):
    assert without_folders(text) == expected
    assert without_folders({"a": [text, 1]}) == {"a": [expected, 1]}
