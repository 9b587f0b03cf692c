"""Color files have the elements that QGIS and CloudCompare require."""

from xml.etree import ElementTree

import numpy as np
import pytest

from vl3d_lite.prediction.class_groups import group_classes
from vl3d_lite.report.color_files import (
    CLOUDCOMPARE,
    KEPT,
    QGIS,
    class_codes,
    cloudcompare_scale,
    qgis_style,
    write_color_files,
)
from vl3d_lite.report.palette import class_palette
from vl3d_lite.spec.reader import read_spec

REJECT = ["prediction.min_confidence=0.6", "prediction.keep_codes=[2, 7, 18]"]


@pytest.fixture
def spec(place):
    def spec(*overrides):
        return read_spec(place / "spec.yaml", overrides, check_files=False).spec

    return spec


def test_codes_have_the_names_and_colors_of_the_report(spec):
    names = ["ground", "vegetation", "building"]
    colors = class_palette(names, codes=[2, 5, 6])
    expected = dict(zip((2, 5, 6), zip(names, colors, strict=True), strict=True))
    assert class_codes(spec(), "prediction") == expected
    more = class_codes(spec(*REJECT), "classification")
    assert list(more) == [1, 2, 5, 6, 7, 18]
    assert more[2] == expected[2]
    assert [more[code][0] for code in (1, 7, 18)] == ["rejected", "kept", "kept"]
    assert list(class_codes(spec(*REJECT), "prediction")) == [1, 2, 5, 6]


def test_merged_classes_have_their_own_names_and_codes(spec):
    joined, _ = group_classes(spec(), "ground, above:1=vegetation+building")
    found = class_codes(joined, "prediction")
    assert {code: name for code, (name, _) in found.items()} == {
        1: "above",
        2: "ground",
    }


def test_the_qgis_style_has_a_classified_renderer(spec):
    codes = class_codes(spec(), "prediction")
    codes[2] = ('<gr&und"', "#0a10ff")
    root = ElementTree.fromstring(qgis_style(codes, "prediction"))
    assert root.tag == "qgis"
    assert root.get("styleCategories") == "Symbology"
    renderer = root.find("renderer")
    assert renderer.get("type") == "classified"
    assert renderer.get("attribute") == "prediction"
    found = [dict(entry.attrib) for entry in renderer.find("categories")]
    assert found[0] == {
        "value": "2",
        "label": '<gr&und"',
        "color": "10,16,255,255",
        "render": "true",
    }
    assert [entry["value"] for entry in found] == ["2", "5", "6"]
    style = ElementTree.fromstring(qgis_style(codes, "classification"))
    assert style.find("renderer").get("attribute") == "Classification"


def color_in_cloudcompare(scale, value):
    """Linear between steps, from 1024 colors, as CloudCompare looks up a color."""
    low = float(scale.findtext("Properties/minValue"))
    length = float(scale.findtext("Properties/range"))
    steps = scale.findall("Data/step")
    positions = [float(step.get("pos")) for step in steps]
    index = int((value - low) / length * 1023)
    return [
        round(np.interp(index / 1023, positions, [int(step.get(c)) for step in steps]))
        for c in "rgb"
    ]


@pytest.mark.parametrize("more", [[], REJECT], ids=["classes", "rejected and kept"])
def test_the_cloudcompare_scale_gives_each_code_its_color(spec, more):
    codes = class_codes(spec(*more), "classification")
    root = ElementTree.fromstring(cloudcompare_scale(codes).encode())
    assert root.tag == "CloudCompare"
    scale = root.find("ColorScale")
    assert scale.get("version") == "1"
    # The reader requires this order.
    order = ["name", "uuid", "absolute", "minValue", "range"]
    assert [entry.tag for entry in scale.find("Properties")] == order
    assert scale.findtext("Properties/absolute") == "1"
    positions = [float(step.get("pos")) for step in scale.findall("Data/step")]
    assert positions == sorted(positions)
    assert (positions[0], positions[-1]) == (0, 1)
    for code, (_, color) in codes.items():
        assert color_in_cloudcompare(scale, code) == list(bytes.fromhex(color[1:]))
    assert color_in_cloudcompare(scale, 3.5) == list(bytes.fromhex(KEPT[1:]))
    labels = {entry.get("val"): entry.get("text") for entry in scale.iter("label")}
    assert labels["5"] == "5 vegetation"
    assert len(labels) == len(codes)


def test_a_single_code_has_a_scale():
    scale = ElementTree.fromstring(
        cloudcompare_scale({6: ("roof", "#e66100")}).encode()
    )
    assert color_in_cloudcompare(scale.find("ColorScale"), 6) == [230, 97, 0]


def test_equal_scales_have_equal_identifiers_and_others_have_others(spec):
    def identifier(*overrides):
        text = cloudcompare_scale(class_codes(spec(*overrides), "classification"))
        return ElementTree.fromstring(text.encode()).findtext(
            "ColorScale/Properties/uuid"
        )

    assert identifier() == identifier()
    assert identifier() != identifier(*REJECT)
    assert identifier()[0] + identifier()[-1] == "{}"


def test_a_run_writes_color_files_beside_its_predictions(trained, tmp_path):
    codes = class_codes(read_spec(trained.spec, check_files=False).spec, "prediction")
    folder = trained.predictions
    assert (folder / QGIS).read_text() == qgis_style(codes, "prediction")
    assert (folder / CLOUDCOMPARE).read_text() == cloudcompare_scale(codes)
    spec = read_spec(trained.spec, check_files=False).spec
    write_color_files(tmp_path / "new", spec, "prediction")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        CLOUDCOMPARE,
        QGIS,
    ]
