"""Class colors as files that QGIS and CloudCompare load beside a prediction."""

import uuid
from pathlib import Path
from xml.etree import ElementTree

from vl3d_lite.report.palette import class_palette
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.writing import write_text

QGIS = "classes.qml"
CLOUDCOMPARE = "classes.cloudcompare.xml"
UNSURE = "#30343b"
KEPT = "#9aa1ab"
# Colors stay flat this far around a code and blend over the rest, so that
# neighboring codes do not run into each other.
_FLAT = 0.49


def class_codes(spec: Spec, column: str) -> dict[int, tuple[str, str]]:
    """What a predicted cloud may hold: name and color by LAS code, in order.

    Args:
        spec: Of the prediction; its classes joined, where they were.
        column: The dimension of the codes: ``prediction`` or ``classification``.

    Returns:
        Classes as in the report; then the code of unsure points and, in
        ``classification``, the codes that were kept.
    """
    codes = [entry.code for entry in spec.classes.values()]
    colors = class_palette(spec.class_names, codes=codes)
    found = dict(zip(codes, zip(spec.class_names, colors, strict=True), strict=True))
    if spec.prediction.min_confidence is not None:
        found.setdefault(spec.reject_code, ("unsure", UNSURE))
    if column == "classification":
        for code in spec.prediction.keep_codes:
            found.setdefault(code, ("kept", KEPT))
    return dict(sorted(found.items()))


def write_color_files(folder: Path, spec: Spec, column: str) -> None:
    """Write `QGIS` and `CLOUDCOMPARE` into a folder of predicted clouds.

    Args:
        folder: Where the clouds lie.
        spec: See `class_codes`.
        column: See `class_codes`.

    Raises:
        ResourceError: The folder cannot be written.
    """
    codes = class_codes(spec, column)
    write_text(folder / QGIS, qgis_style(codes, column))
    write_text(folder / CLOUDCOMPARE, cloudcompare_scale(codes))


def qgis_style(codes: dict[int, tuple[str, str]], column: str) -> str:
    """A layer style of QGIS 3.18 or later: the point cloud renderer by classes.

    It styles colors only. QGIS draws no point whose code it does not list.

    Args:
        codes: Name and ``#rrggbb`` by code.
        column: See `class_codes`.

    Source:
        QGIS, ``QgsPointCloudClassifiedRenderer::create`` and
        ``QgsPointCloudLayer::readStyle``, which read these elements.
    """
    root = ElementTree.Element("qgis", version="3.18.0", styleCategories="Symbology")
    attribute = "Classification" if column == "classification" else column
    size = {"pointSize": "1", "pointSizeUnit": "MM"}
    error = {"maximumScreenError": "0.3", "maximumScreenErrorUnit": "MM"}
    renderer = ElementTree.SubElement(
        root, "renderer", type="classified", attribute=attribute, **size, **error
    )
    categories = ElementTree.SubElement(renderer, "categories")
    for code, (name, color) in codes.items():
        ElementTree.SubElement(
            categories,
            "category",
            value=str(code),
            label=name,
            color=",".join(map(str, (*_rgb(color), 255))),
            render="true",
        )
    kind = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
    return kind + _text(root)


def cloudcompare_scale(codes: dict[int, tuple[str, str]]) -> str:
    """A color scale for CloudCompare's Color Scales Manager, with labels.

    It is absolute: a code has its color whatever else a cloud holds. Codes that
    are not listed are gray between listed ones. Equal scales have equal
    identifiers, so that importing one again adds no second one.

    Args:
        codes: Name and ``#rrggbb`` by code, ascending.

    Source:
        CloudCompare, ``ccColorScale::LoadFromXML``, which wants these elements in
        this order, and steps from 0 to 1.
    """
    low, high = min(codes) - 0.5, max(codes) + 0.5
    steps, last = [], None
    for code, (_, color) in codes.items():
        if last is not None and code > last + 1:
            steps += [(last + 1 - _FLAT, KEPT), (code - 1 + _FLAT, KEPT)]
        steps += [(code - _FLAT, color), (code + _FLAT, color)]
        last = code
    steps[0], steps[-1] = (low, steps[0][1]), (high, steps[-1][1])
    name = f"vl3d_lite: {', '.join(name for name, _ in codes.values())}"[:60]
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"vl3d_lite {sorted(codes.items())}")
    root = ElementTree.Element("CloudCompare")
    scale = ElementTree.SubElement(root, "ColorScale", version="1")
    properties = ElementTree.SubElement(scale, "Properties")
    for tag, text in {
        "name": name,
        "uuid": f"{{{identifier}}}",
        "absolute": "1",
        "minValue": f"{low:g}",
        "range": f"{high - low:g}",
    }.items():
        ElementTree.SubElement(properties, tag).text = text
    data = ElementTree.SubElement(scale, "Data")
    for value, color in steps:
        red, green, blue = map(str, _rgb(color))
        position = f"{(value - low) / (high - low):.12g}"
        ElementTree.SubElement(data, "step", r=red, g=green, b=blue, pos=position)
    for code, (name, _) in codes.items():
        ElementTree.SubElement(data, "label", val=str(code), text=f"{code} {name}")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + _text(root)


def _rgb(color: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(color[1:])
    return red, green, blue


def _text(root: ElementTree.Element) -> str:
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
