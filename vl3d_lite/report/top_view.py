"""A cloud seen from above, as small pictures of few colors."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

SIDE = 600
_CHUNK = 1 << 22  # Points at a time: bounds temporaries to 100 MB.


@dataclass(frozen=True)
class TopView:
    """Which pixel every point falls into, north up.

    Args:
        shape: Rows and columns.
        pixel_size: Side of a pixel in meters; 0 where the cloud has no extent.
        pixels: ``(n,)`` int32, pixel of each point, row by row.
        top: ``(rows * columns,)`` int64, highest point of each pixel; -1 where
            none. Of points of equal height the last one counts.
    """

    shape: tuple[int, int]
    pixel_size: float
    pixels: np.ndarray
    top: np.ndarray

    @classmethod
    def of(cls, xyz: np.ndarray, side: int = SIDE, per_pixel: float = 3) -> "TopView":
        """Lay pixels over a cloud.

        `per_pixel` points or more fall into a pixel on average (of three, 5 % of
        the pixels stay empty), and the longer side has at most `side` pixels.

        Args:
            xyz: ``(n, 3)`` float, meters, n at least 1.
            side: Most pixels along the longer side.
            per_pixel: Fewest points a pixel, on average; positive.
        """
        low, high = xyz[:, :2].min(axis=0), xyz[:, :2].max(axis=0)
        extent = np.maximum(high - low, 0)
        longest = extent.max()
        # A line of points has no area; it counts as a pixel wide.
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
        """``(rows, columns)`` value of each pixel's highest point."""
        picture = np.where(self.top >= 0, values[self.top], empty)
        return picture.reshape(self.shape)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """``(rows, columns)`` float64 mean of each pixel's points; NaN where none."""
        size = len(self.top)
        count = np.bincount(self.pixels, minlength=size)
        total = np.bincount(self.pixels, weights=values, minlength=size)
        picture = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return picture.reshape(self.shape)


@dataclass(frozen=True)
class Picture:
    """A picture of few colors.

    Args:
        title: What it shows.
        indices: ``(rows, columns)`` uint8: 0 is transparent, 1 the first color.
        colors: ``#rrggbb``, at most 255.
        legend: Text by color, for those worth explaining.
    """

    title: str
    indices: np.ndarray
    colors: Sequence[str]
    legend: dict[str, str]

    def png(self, step: int = 1) -> bytes:
        """Encode every `step`-th pixel."""
        from PIL import Image

        palette = bytes(3) + b"".join(bytes.fromhex(c[1:]) for c in self.colors)
        image = Image.fromarray(np.ascontiguousarray(self.indices[::step, ::step]))
        image.putpalette(palette)
        stream = io.BytesIO()
        image.save(stream, format="png", transparency=0, optimize=True)
        return stream.getvalue()


IGNORED = "#e3e6ea"
_RIGHT = "#c3c9d1"
_WRONG = ("#f6a58c", "#e0442e", "#8e0c14")
# Dark is doubtful: matplotlib's cividis, even steps in lightness.
_CONFIDENCE = (
    *("#00224e", "#123570", "#3b496c", "#575d6d", "#707173"),
    *("#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
)


def draw_classes(
    view: TopView, title: str, labels: np.ndarray, names: Sequence[str], colors
) -> Picture:
    """The class of each pixel's highest point.

    Args:
        view: Pixels of the cloud.
        title: What the labels are.
        labels: ``(n,)`` class index; -1 is ignored and gray.
        names: Class names.
        colors: Color of each class.
    """
    # A palette ends at 256 entries; class 254 and on start over.
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
    return Picture(title, indices, [IGNORED, *colors[:limit]], legend)


def draw_errors(
    view: TopView, reference: np.ndarray, prediction: np.ndarray
) -> Picture:
    """Gray where every labelled point is right, else red by the share of wrong ones.

    Errors below the highest point count too, unlike in pictures of classes.
    """
    labelled = reference >= 0
    only = replace(view, pixels=view.pixels[labelled])
    share = only.mean(reference[labelled] != prediction[labelled])
    step = np.ceil(np.nan_to_num(share) * len(_WRONG)) + 2
    bare = np.where(view.top >= 0, 1, 0).reshape(view.shape)
    indices = np.where(np.isfinite(share), step, bare).astype(np.uint8)
    legend = {
        _RIGHT: "all right",
        _WRONG[0]: "up to 1/3 wrong",
        _WRONG[1]: "up to 2/3 wrong",
        _WRONG[2]: "more wrong",
    }
    if (indices == 1).any():
        legend[IGNORED] = "ignored"
    return Picture("Errors", indices, [IGNORED, _RIGHT, *_WRONG], legend)


def draw_confidence(view: TopView, confidence: np.ndarray, n_classes: int) -> Picture:
    """Mean confidence of each pixel, from chance (dark) to certain (light)."""
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
    return Picture("Confidence", indices, _CONFIDENCE, legend)
