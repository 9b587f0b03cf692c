"""Top views of a cloud, as small pictures with a color palette."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vl3d_lite.report.scale_bar import ScaleBar, scale_bar

SIDE = 600  # pixels; a picture of a page is at most 40 rem wide
_CHUNK = 1 << 22  # points at a time, which limits temporaries to 100 MB


@dataclass(frozen=True)
class TopView:
    """The pixel of every point, north up.

    Args:
        shape: Rows and columns.
        pixel_size: Side of a pixel in meters; 0 where the cloud has no extent.
        pixels: ``(n,)`` int32, pixel of each point, in row-major order.
        top: ``(rows * columns,)`` int64, highest point of each pixel, the last one
            of equal height; -1 where the pixel is empty.
    """

    shape: tuple[int, int]
    pixel_size: float
    pixels: np.ndarray
    top: np.ndarray

    @classmethod
    def of(cls, xyz: np.ndarray, side: int = SIDE, per_pixel: float = 3) -> "TopView":
        """Assign the points of a cloud to pixels.

        The pixel size is the smallest with at least `per_pixel` points per pixel
        on average and at most `side` pixels along the longer side. With three
        points per pixel, 5 % of the pixels are empty.

        Args:
            xyz: ``(n, 3)`` float, meters, n at least 1.
            side: Maximum number of pixels along the longer side.
            per_pixel: Minimum number of points per pixel, on average; positive.
        """
        low, high = xyz[:, :2].min(axis=0), xyz[:, :2].max(axis=0)
        extent = np.maximum(high - low, 0)
        longest = extent.max()
        # A line of points has no area, so it is taken as one pixel wide.
        area = np.prod(np.maximum(extent, longest / side))
        size = max(longest / side, float(np.sqrt(per_pixel * area / len(xyz))))
        columns, rows = (
            np.minimum(extent // size + 1, side).astype(int) if size > 0 else (1, 1)
        )
        pixels = np.empty(len(xyz), np.int32)
        top = np.full(rows * columns, -1, np.int64)
        height = np.full(rows * columns, -np.inf)
        for start in range(0, len(xyz), _CHUNK):
            x, y, z = xyz[start : start + _CHUNK].T
            scale = 1 / size if size > 0 else 0.0
            column = np.minimum(((x - low[0]) * scale).astype(np.int32), columns - 1)
            row = np.minimum(((high[1] - y) * scale).astype(np.int32), rows - 1)
            pixel = row * np.int32(columns) + column
            np.maximum.at(height, pixel, z)
            winners = np.flatnonzero(z == height[pixel])
            top[pixel[winners]] = start + winners
            pixels[start : start + _CHUNK] = pixel
        return cls((int(rows), int(columns)), size, pixels, top)

    def highest(self, values: np.ndarray, empty: int) -> np.ndarray:
        """``(rows, columns)`` value of the highest point of each pixel."""
        picture = np.where(self.top >= 0, values[self.top], empty)
        return picture.reshape(self.shape)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """``(rows, columns)`` float64 mean of the points of each pixel, or NaN."""
        size = len(self.top)
        count = np.bincount(self.pixels, minlength=size)
        total = np.bincount(self.pixels, weights=values, minlength=size)
        picture = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return picture.reshape(self.shape)


@dataclass(frozen=True)
class Picture:
    """A picture with a color palette.

    Args:
        title: Title of the picture.
        indices: ``(rows, columns)`` uint8: 0 is transparent, 1 the first color.
        colors: ``#rrggbb``, at most 255.
        legend: Text by color, for the colors that need one.
        pixel_size: Side of a pixel in meters; 0 where it is unknown.
        meters_per_unit: Meters in one unit of the scale bar.
    """

    title: str
    indices: np.ndarray
    colors: Sequence[str]
    legend: dict[str, str]
    pixel_size: float = 0.0
    meters_per_unit: float = 1.0

    @property
    def scale(self) -> ScaleBar | None:
        """The scale bar; None where the size of a pixel is unknown."""
        width = self.pixel_size * self.indices.shape[1]
        return scale_bar(width, self.meters_per_unit)

    @property
    def aspect(self) -> float:
        """Width over height."""
        rows, columns = self.indices.shape
        return columns / rows

    def png(self, step: int = 1) -> bytes:
        """Encode every `step`-th row and column as PNG."""
        from PIL import Image

        palette = bytes(3) + b"".join(bytes.fromhex(c[1:]) for c in self.colors)
        image = Image.fromarray(np.ascontiguousarray(self.indices[::step, ::step]))
        image.putpalette(palette)
        stream = io.BytesIO()
        image.save(stream, format="png", transparency=0, optimize=True)
        return stream.getvalue()


IGNORED = "#e3e6ea"
_CORRECT = "#c3c9d1"
_WRONG = ("#f6a58c", "#e0442e", "#8e0c14")
# Dark is uncertain: cividis of matplotlib, in even steps of lightness.
_CONFIDENCE = (
    *("#00224e", "#123570", "#3b496c", "#575d6d", "#707173"),
    *("#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
)


def draw_classes(
    view: TopView, title: str, labels: np.ndarray, names: Sequence[str], colors
) -> Picture:
    """Draw the class of the highest point of each pixel.

    Args:
        view: Pixels of the cloud.
        title: Title of the picture.
        labels: ``(n,)`` int class index; -1 is ignored and gray.
        names: Class names.
        colors: ``#rrggbb`` of each class.
    """
    # A palette has 256 entries; from class 254 on, colors repeat.
    limit = 254
    nothing = -2
    top = view.highest(labels, nothing)
    indices = np.where(top >= 0, top % limit + 2, top - nothing).astype(np.uint8)
    seen = np.bincount(indices.ravel(), minlength=2 + limit)[2:]
    legend = {
        color: name for color, name, n in zip(colors, names, seen, strict=False) if n
    }
    if (indices == 1).any():
        legend[IGNORED] = "ignored"
    palette = [IGNORED, *colors[:limit]]
    return Picture(title, indices, palette, legend, view.pixel_size)


def draw_errors(
    view: TopView, reference: np.ndarray, prediction: np.ndarray
) -> Picture:
    """Draw pixels without an error gray, others red by the share of wrong points.

    All labeled points of a pixel count, unlike in `draw_classes`.
    """
    labeled = reference >= 0
    only = replace(view, pixels=view.pixels[labeled])
    share = only.mean(reference[labeled] != prediction[labeled])
    step = np.ceil(np.nan_to_num(share) * len(_WRONG)) + 2
    bare = np.where(view.top >= 0, 1, 0).reshape(view.shape)
    indices = np.where(np.isfinite(share), step, bare).astype(np.uint8)
    legend = {
        _CORRECT: "all correct",
        _WRONG[0]: "up to 1/3 wrong",
        _WRONG[1]: "up to 2/3 wrong",
        _WRONG[2]: "more than 2/3 wrong",
    }
    if (indices == 1).any():
        legend[IGNORED] = "ignored"
    palette = [IGNORED, _CORRECT, *_WRONG]
    return Picture("Errors", indices, palette, legend, view.pixel_size)


def draw_differences(view: TopView, differs: np.ndarray, title: str) -> Picture:
    """Draw pixels without a difference gray, others red by the share of such points.

    Args:
        view: Pixels of the cloud.
        differs: ``(n,)`` bool.
        title: Title of the picture.
    """
    share = view.mean(differs)
    step = np.ceil(np.nan_to_num(share) * len(_WRONG)) + 1
    indices = np.where(np.isfinite(share), step, 0).astype(np.uint8)
    legend = {
        _CORRECT: "no difference",
        _WRONG[0]: "up to 1/3 of the points differ",
        _WRONG[1]: "up to 2/3 differ",
        _WRONG[2]: "more than 2/3 differ",
    }
    return Picture(title, indices, [_CORRECT, *_WRONG], legend, view.pixel_size)


def draw_confidence(view: TopView, confidence: np.ndarray, n_classes: int) -> Picture:
    """Draw the mean confidence of each pixel, from chance (dark) to 1 (light)."""
    chance = 1 / max(n_classes, 2)
    share = (view.mean(confidence) - chance) / (1 - chance)
    steps = len(_CONFIDENCE)
    bins = np.clip(np.nan_to_num(share) * steps, 0, steps - 1).astype(np.uint8) + 1
    indices = np.where(np.isfinite(share), bins, 0).astype(np.uint8)
    legend = {
        _CONFIDENCE[0]: f"{chance:.2f}, chance",
        _CONFIDENCE[steps // 2]: f"{(1 + chance) / 2:.2f}",
        _CONFIDENCE[-1]: "1.00, certain",
    }
    return Picture("Confidence", indices, _CONFIDENCE, legend, view.pixel_size)
