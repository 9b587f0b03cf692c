"""Pictures of clouds, disagreements and kernels, embedded in a page."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vl3d_lite.clouds import Frame
from vl3d_lite.evaluation import Disagreement
from vl3d_lite.report.cross_section import CrossSection
from vl3d_lite.report.disagreement_view import draw_disagreement
from vl3d_lite.report.top_view import (
    Picture,
    TopView,
    draw_classes,
    draw_confidence,
    draw_errors,
)

__all__ = [
    "CloudView",
    "DrawnClouds",
    "data_uri",
    "draw_clouds",
    "embed_kernel_images",
]

# Base64 makes 4 bytes of 3; with plots and text the page stays below 5 MB.
_CLOUD_BYTES = 2_400_000
_KERNEL_BYTES = 700_000
_DRAWN_DISAGREEMENTS = 10  # three pictures of at most 160 pixels: 100 kB in total
_STEPS = (1, 2, 3, 4, 6, 8)  # every n-th pixel, tried until the pictures fit
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class CloudView:
    """A classified cloud to be drawn.

    Args:
        name: Name on the page.
        xyz: ``(n, 3)`` float64, meters, local to `frame`.
        prediction: ``(n,)`` int, class index.
        reference: ``(n,)`` int, class index or -1; None without reference labels.
        confidence: ``(n,)`` float in [0, 1], or None.
        frame: The place and the unit of the cloud in its file.
        class_sources: Number of points by the way they got their class, such as
            ``{"predicted directly": 9900, "filled": 100}``.
    """

    name: str
    xyz: np.ndarray
    prediction: np.ndarray
    reference: np.ndarray | None = None
    confidence: np.ndarray | None = None
    frame: Frame = field(default_factory=Frame.local)
    class_sources: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class DrawnClouds:
    """Clouds and disagreements as values of a template.

    Attributes:
        clouds: One entry per cloud, with its facts and embedded pictures.
        disagreements: One entry per drawn disagreement.
        predicted: ``(C,)`` int64, number of points predicted as each class.
        without_pictures: Number of clouds whose pictures are omitted, because the
            page would become too large.
    """

    clouds: list[dict[str, Any]]
    disagreements: list[dict[str, Any]]
    predicted: np.ndarray
    without_pictures: int


def draw_clouds(
    clouds: Iterable[CloudView],
    disagreements: Sequence[Disagreement],
    class_names: Sequence[str],
    colors: Sequence[str],
    *,
    link_distance: float,
) -> DrawnClouds:
    """Draw every cloud from above and in a cross-section, and its disagreements.

    Args:
        clouds: Read once and in order; only one cloud is kept in memory.
        disagreements: Largest first; the first ten are drawn.
        class_names: ``C`` names.
        colors: ``C`` colors ``#rrggbb``.
        link_distance: Distance in meters within which the points of a disagreement
            are connected.
    """
    entries, predicted = [], np.zeros(len(class_names), np.int64)
    drawn: list[dict[str, Any]] = [
        {"disagreement": entry, "pictures": []}
        for entry in disagreements[:_DRAWN_DISAGREEMENTS]
    ]
    for cloud in clouds:
        predicted += np.bincount(cloud.prediction, minlength=len(predicted))
        entries.append(_draw_cloud(cloud, class_names, colors))
        for item in drawn:
            if item["disagreement"].cloud == cloud.name and cloud.reference is not None:
                pictures = draw_disagreement(
                    item["disagreement"],
                    cloud.xyz,
                    cloud.reference,
                    cloud.prediction,
                    class_names,
                    colors,
                    frame=cloud.frame,
                    link_distance=link_distance,
                )
                pictures = _in_units_of(cloud, pictures)
                item["pictures"] = [_embedded(pic, pic.png()) for pic in pictures]
    embedded, without = _embed_pictures([entry["pictures"] for entry in entries])
    for entry, pictures_of_cloud in zip(entries, embedded, strict=True):
        entry["pictures"] = pictures_of_cloud
    return DrawnClouds(entries, drawn, predicted, without)


def data_uri(png: bytes) -> str:
    """The address of an image that is part of the page."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def embed_kernel_images(paths: Sequence[Path]) -> list[dict[str, str]]:
    """Title and address of each kernel image, as many as fit on the page.

    Files that are missing, too large or not PNG are omitted.
    """
    images, room = [], _KERNEL_BYTES
    for path in map(Path, paths):
        png = path.read_bytes() if path.is_file() else b""
        if png.startswith(_PNG) and len(png) <= room:
            room -= len(png)
            title = f"{path.parent.name}/{path.name}"
            images.append({"title": title, "source": data_uri(png)})
    return images


def _draw_cloud(
    cloud: CloudView, names: Sequence[str], colors: Sequence[str]
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": cloud.name,
        "points": len(cloud.xyz),
        "class_sources": dict(cloud.class_sources),
        "pictures": [],
        "crs": cloud.frame.crs,
        "units": cloud.frame.units,
    }
    if len(cloud.xyz):
        view, section = TopView.of(cloud.xyz), CrossSection.through(cloud.xyz)
        entry["pictures"] = _draw(cloud, view, names, colors)
        entry["pictures"] += _draw_section(cloud, section, names, colors)
        entry["pictures"] = _in_units_of(cloud, entry["pictures"])
        entry["section"] = _section_facts(cloud, section)
        entry["extent"] = tuple(np.ptp(cloud.xyz[:, :2], axis=0))
        entry["pixel"] = view.pixel_size
    return entry


def _in_units_of(cloud: CloudView, pictures: list[Picture]) -> list[Picture]:
    unit = float(cloud.frame.meters_per_unit[0])
    return [replace(picture, meters_per_unit=unit) for picture in pictures]


def _draw(
    cloud: CloudView, view: TopView, names: Sequence[str], colors: Sequence[str]
) -> list[Picture]:
    pictures = [draw_classes(view, "Prediction", cloud.prediction, names, colors)]
    if cloud.reference is not None and (cloud.reference >= 0).any():
        reference = draw_classes(view, "Reference", cloud.reference, names, colors)
        pictures.insert(0, reference)
        pictures.append(draw_errors(view, cloud.reference, cloud.prediction))
    if cloud.confidence is not None:
        pictures.append(draw_confidence(view, cloud.confidence, len(names)))
    return pictures


def _draw_section(
    cloud: CloudView, section: CrossSection, names: Sequence[str], colors: Sequence[str]
) -> list[Picture]:
    rows = section.points
    part = replace(
        cloud,
        prediction=cloud.prediction[rows],
        reference=None if cloud.reference is None else cloud.reference[rows],
        confidence=None if cloud.confidence is None else cloud.confidence[rows],
    )
    return [
        replace(picture, title=section.title(picture.title))
        for picture in _draw(part, section.view, names, colors)
    ]


def _section_facts(cloud: CloudView, section: CrossSection) -> dict[str, Any]:
    """Position of a cross-section in the CRS and the unit of the cloud."""
    ends = cloud.frame.coordinates(cloud.xyz[section.points])[:, section.along]
    middle = cloud.frame.coordinates(section.middle)
    return {
        "along": "xy"[section.along],
        "across": "yx"[section.along],
        "position": middle[1 - section.along],
        "start": ends.min(),
        "end": ends.max(),
        "thickness": section.thickness,
    }


def _embed_pictures(clouds: list[list[Picture]]) -> tuple[list[list[dict]], int]:
    """Encode pictures as finely as the page allows, and count omitted clouds."""
    for step in _STEPS:
        encoded = [[picture.png(step) for picture in pictures] for pictures in clouds]
        if sum(len(png) for pngs in encoded for png in pngs) <= _CLOUD_BYTES:
            break
    embedded, without, room = [], 0, _CLOUD_BYTES
    for pictures, pngs in zip(clouds, encoded, strict=True):
        room -= sum(map(len, pngs))
        without += room < 0
        embedded.append(
            [
                _embedded(picture, png)
                for picture, png in zip(pictures, pngs, strict=True)
                if room >= 0
            ]
        )
    return embedded, without


def _embedded(picture: Picture, png: bytes) -> dict[str, Any]:
    return {
        "title": picture.title,
        "source": data_uri(png),
        "legend": picture.legend,
        "scale": picture.scale,
        "aspect": picture.aspect,
        "north_up": "cross-section" not in picture.title,
    }
