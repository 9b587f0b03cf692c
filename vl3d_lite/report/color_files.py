"""Class colors as style files of QGIS and CloudCompare."""

import uuid
from pathlib import Path
from xml.etree import ElementTree

from vl3d_lite.report.palette import class_palette
from vl3d_lite.spec import Spec
from vl3d_lite.system import write_text

QGIS = "classes.qml"
CLOUDCOMPARE = "classes.cloudcompare.xml"
REJECTED = "#30343b"
KEPT = "#9aa1ab"
# Colors are constant within this distance of a code and blend beyond it, so that
# the colors of adjacent codes stay distinct.
_FLAT = 0.49


def class_codes(spec: Spec, column: str) -> dict[int, tuple[str, str]]:
    """Name and color of each LAS code that a predicted cloud may contain.

    Args:
        spec: Spec of the prediction, with its classes merged where they were.
        column: The dimension of the codes, ``prediction`` or ``classification``.

    Returns:
        ``(name, color)`` by code, ascending: the classes with the colors of the
        report, the code of rejected points and, in ``classification``, the kept
        codes.
    """
    codes = [entry.code for entry in spec.classes.values()]
    colors = class_palette(spec.class_names, codes=codes)
    found = dict(zip(codes, zip(spec.class_names, colors, strict=True), strict=True))
    reject_code = spec.reject_code
    if spec.prediction.min_confidence is not None and reject_code is not None:
        found.setdefault(reject_code, ("rejected", REJECTED))
    if column == "classification":
        for code in spec.prediction.keep_codes:
            found.setdefault(code, ("kept", KEPT))
    return dict(sorted(found.items()))


def write_color_files(folder: Path, spec: Spec, column: str) -> None:
    """Write `QGIS` and `CLOUDCOMPARE` into a folder of predicted clouds.

    Args:
        folder: Folder of the predicted clouds.
        spec: Spec of the prediction, with its classes merged where they were.
        column: The dimension of the codes, ``prediction`` or ``classification``.

    Raises:
        ResourceError: The folder cannot be written.
    """
    codes = class_codes(spec, column)
    write_text(folder / QGIS, qgis_style(codes, column))
    write_text(folder / CLOUDCOMPARE, cloudcompare_scale(codes))


def qgis_style(codes: dict[int, tuple[str, str]], column: str) -> str:
    """A QML layer style of QGIS 3.18 or later: the classified point cloud renderer.

    It sets colors only. QGIS draws no point whose code is not listed.

    Args:
        codes: Name and ``#rrggbb`` by code.
        column: The dimension of the codes, ``prediction`` or ``classification``.

    Source:
        QGIS, ``QgsPointCloudClassifiedRenderer::create`` and
        ``QgsPointCloudLayer::readStyle``, which read these elements.
    """
    root = ElementTree.Element("qgis", version="3.18.0", styleCategories="Symbology")
    attribute = "Classification" if column == "classification" else column
    settings = {
        "type": "classified",
        "attribute": attribute,
        "pointSize": "1",
        "pointSizeUnit": "MM",
        "maximumScreenError": "0.3",
        "maximumScreenErrorUnit": "MM",
    }
    renderer = ElementTree.SubElement(root, "renderer", settings)
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
    """A color scale with labels for the Color Scales Manager of CloudCompare.

    The scale is absolute: the color of a code is independent of the other codes of
    a cloud. Unlisted codes between listed ones are gray. Equal scales have equal
    identifiers, so that CloudCompare imports a scale only once.

    Args:
        codes: Name and ``#rrggbb`` by code, ascending.

    Source:
        CloudCompare, ``ccColorScale::LoadFromXML``, which requires these elements
        in this order, and steps from 0 to 1.
    """
    low, high = min(codes) - 0.5, max(codes) + 0.5
    steps: list[tuple[float, str]] = []
    last: int | None = None
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
