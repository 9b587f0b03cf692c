"""What a cloud has room for is known before it is predicted."""

import laspy
import pytest

from tests.clouds.las_files import make_las
from vl3d_lite.errors import DataError
from vl3d_lite.prediction.writing import check_additions
from vl3d_lite.spec.reader import read_spec

EVERYTHING = "prediction.write=[prediction, confidence, entropy, probabilities]"


@pytest.mark.parametrize(
    ("extra", "sets", "message"),
    [
        (0, [EVERYTHING], None),
        (65_535 - 20 - 22, [EVERYTHING], None),
        (65_535 - 20 - 21, [EVERYTHING], "would need 65,536 bytes"),
        (65_535 - 20 - 6, ["prediction.write=[prediction, confidence]"], None),
        (
            65_535 - 20 - 9,  # format 6 takes ten bytes more, for code 64
            ["prediction.write=[classification]", "classes.building.output_code=64"],
            "would need 65,536 bytes",
        ),
    ],
)
def test_records_that_would_grow_too_long_are_refused_before(
    place, tmp_path, extra, sets, message
):
    source = make_las(tmp_path / "in.las", "1.2", 0, count=2)
    raw = source.read_bytes()
    points = [raw[start:][:20] + bytes(extra) for start in (-40, -20)]
    length = (20 + extra).to_bytes(2, "little")
    source.write_bytes(raw[:105] + length + raw[107:-40] + b"".join(points))
    assert laspy.read(source).point_format.num_extra_bytes == extra
    spec = read_spec(place / "spec.yaml", sets, check_files=False).spec
    if message is None:
        check_additions(source, spec, replace=False)
        return
    with pytest.raises(DataError, match=message):
        check_additions(source, spec, replace=False)


def test_a_dimension_that_is_replaced_needs_no_more_room(place, tmp_path):
    extra = [{"name": "prediction", "type": "u2"}]
    extra += [{"name": f"e{n}", "type": "u1"} for n in range(340)]
    source = make_las(tmp_path / "in.las", "1.4", 6, count=2, extra=extra)
    sets = ["prediction.write=[prediction]"]
    spec = read_spec(place / "spec.yaml", sets, check_files=False).spec
    check_additions(source, spec, replace=True)
    sets = ["prediction.write=[prediction, confidence]"]
    spec = read_spec(place / "spec.yaml", sets, check_files=False).spec
    with pytest.raises(DataError, match="record of extra dimensions would need 65,664"):
        check_additions(source, spec, replace=True)
