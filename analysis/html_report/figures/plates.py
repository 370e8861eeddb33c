"""Figures made of images: samples, patches with their centroids, galleries, rebuilt images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray
from matplotlib.figure import Figure

from analysis.html_report.figures.style import DPI, GREY, NORMAL, SMALL, WIDTH, Board, dots
from analysis.measures.gallery import grid_shape, tiled
from analysis.measures.pixel_scale import PixelScale, enlarged, reduced, scale_to, shades
from analysis.measures.similarity_grid import sort_on_grid
from analysis.text import number

ALL = dots(WIDTH)
MARGIN = dots(0.06)
TEXT_LINE = dots(0.155)
TILE = dots(0.34)  # of a patch
PAIR_GAP = 6  # between a patch and its centroid
MIN_GALLERY_TILE = 12
GALLERY_TILE = dots(0.42)  # of a centroid at most
COLUMNS_FROM = 9  # so many K and more are set in two columns
MOST_IN_A_ROW = 8  # rebuilt images
TALL = 2  # widths of its room that an image may be high


def sample_plate(rows: Mapping[str, Sequence[np.ndarray]], pixels: PixelScale) -> Figure:
    """Images of each split in a row, reduced where they are large; rows: label -> images."""
    label = dots(0.62)
    per_row = max(len(images) for images in rows.values())
    gap = dots(0.07)
    height, width = next(iter(rows.values()))[0].shape[:2]
    room = (ALL - label - MARGIN) // per_row - gap
    factor, scale = _fitting(height, width, room)
    height, width = max(1, height // factor), max(1, width // factor)
    pitch, high = scale * width + gap, scale * height
    board = Board(ALL, 2 * MARGIN + len(rows) * (high + gap) - gap)
    for line, (name, images) in enumerate(rows.items()):
        top = MARGIN + line * (high + gap)
        board.text(MARGIN, top + high / 2, name, va="center")
        for place, image in enumerate(images):
            picture = enlarged(shades(reduced(image, factor), pixels.largest), scale)
            board.image(picture, label + place * pitch, top)
    return board.finished()


def _fitting(height: int, width: int, room: int) -> tuple[int, int]:
    """Factors by which an image is reduced, then enlarged, to be at most so wide and TALL so high.

    room: in dots.
    """
    factor = max(-(-width // room), -(-height // (TALL * room)))
    scale = min(
        scale_to(room, max(1, width // factor)), scale_to(TALL * room, max(1, height // factor))
    )
    return factor, scale


@dataclass(frozen=True)
class Quantised:
    """The nearest centroids of some patches: labels (m,), tiles (m, *patch_shape)."""

    labels: np.ndarray
    tiles: np.ndarray


def patch_plate(patches: np.ndarray, by_k: dict[int, Quantised], pixels: PixelScale) -> Figure:
    """For each K the same patches above their centroids, with the centroids' indices.

    patches: (m, *patch_shape). From COLUMNS_FROM sizes on in two columns, of half the patches.
    """
    columns = 2 if len(by_k) >= COLUMNS_FROM else 1
    label, gap = dots(0.66), dots(0.06)
    span = (ALL - MARGIN - (columns - 1) * dots(0.2)) // columns
    rows, cols = patches.shape[1:3]
    scale = scale_to(TILE, max(rows, cols))
    pitch = max(scale * cols + gap, dots(0.36))  # room for an index of five digits
    shown = min(len(patches), max(1, (span - label) // pitch))
    high = scale * rows
    block = 2 * high + PAIR_GAP + TEXT_LINE + dots(0.13)
    lines = -(-len(by_k) // columns)
    board = Board(ALL, MARGIN + lines * block)
    for place, (k, found) in enumerate(by_k.items()):
        left = MARGIN + (place // lines) * (span + dots(0.2))
        top = MARGIN + (place % lines) * block
        board.text(left, top + high + PAIR_GAP / 2, f"K = {k:,}", va="center")
        for index in range(shown):
            at = left + label + index * pitch
            board.image(enlarged(shades(patches[index], pixels.largest), scale), at, top)
            tile = shades(found.tiles[index], pixels.largest)
            board.image(enlarged(tile, scale), at, top + high + PAIR_GAP)
            middle = at + scale * cols / 2
            words = str(found.labels[index])
            below = top + 2 * high + PAIR_GAP + dots(0.03)
            board.text(middle, below, words, ha="center", fontsize=SMALL - 1, color=GREY)
    return board.finished()


def worst_plate(worst: xarray.Dataset, pixels: PixelScale) -> Figure:
    """Patches that are rebuilt worst above their nearest centroids, worst first.

    worst: over `worst` the patches worst_patch and centroids worst_centroid (worst, row, col[,
    channel]), worst_rmse in pixel levels, worst_image, the image that each was cut from.
    """
    label, gap = dots(0.66), dots(0.06)
    patches, centroids = worst["worst_patch"].values, worst["worst_centroid"].values
    rows, cols = patches.shape[1:3]
    scale = scale_to(TILE, max(rows, cols))
    pitch = max(scale * cols + gap, dots(0.36))  # room for an index of five digits
    across = max(1, (ALL - MARGIN - label) // pitch)
    high = scale * rows
    block = 2 * high + PAIR_GAP + 2 * TEXT_LINE + dots(0.13)
    board = Board(ALL, MARGIN + -(-len(patches) // across) * block)
    for top in range(MARGIN, MARGIN + -(-len(patches) // across) * block, block):
        upper, lower = top + high / 2, top + high + PAIR_GAP + high / 2
        first = top + 2 * high + PAIR_GAP + dots(0.03)
        board.text(MARGIN, upper, "patch", va="center", fontsize=SMALL)
        board.text(MARGIN, lower, "centroid", va="center", fontsize=SMALL)
        for step, name in enumerate(("RMSE", "image")):
            board.text(MARGIN, first + step * TEXT_LINE, name, fontsize=SMALL - 1, color=GREY)
    for place, (patch, centroid) in enumerate(zip(patches, centroids, strict=True)):
        left, top = label + place % across * pitch, MARGIN + place // across * block
        for step, tile in enumerate((patch, centroid)):
            picture = enlarged(shades(tile, pixels.largest), scale)
            board.image(picture, left, top + step * (high + PAIR_GAP))
        words = (
            number(float(worst["worst_rmse"].values[place]), 3),
            str(int(worst["worst_image"].values[place])),
        )
        for step, line in enumerate(words):
            below = top + 2 * high + PAIR_GAP + dots(0.03) + step * TEXT_LINE
            middle = left + scale * cols / 2
            colour = GREY if step else "black"
            board.text(middle, below, line, ha="center", fontsize=SMALL - 1, color=colour)
    return board.finished()


def gallery_plate(
    centroids: np.ndarray, pixels: PixelScale, seed: int = 0
) -> tuple[Figure, np.ndarray]:
    """All centroids, ordered; exactly as large as its tiles and the lines between them need.

    Tiles are an even number of dots apart, so that a screen that shows two dots as one shows all
    lines alike.
    Returns: the figure; (rows, columns) int64, which centroid stands where, -1 for none.
    """
    longer = max(centroids.shape[1:3])
    smallest = longer + 2 - longer % 2
    rows, cols = grid_shape(len(centroids), max(1, ALL // max(smallest, MIN_GALLERY_TILE)))
    order = sort_on_grid(centroids, rows, cols, seed)
    scale = scale_to(min(GALLERY_TILE, ALL // cols) - 1, longer)
    line = 2 - (centroids.shape[2] * scale) % 2
    picture = tiled(centroids, order, largest=pixels.largest, scale=scale, line=line)
    board = Board(picture.shape[1], picture.shape[0])
    board.image(picture, 0, 0, frame=False)
    return board.finished(), order


def kinds_plate(rows: Mapping[str, np.ndarray], pixels: PixelScale) -> Figure:
    """Examples of each kind of centroid in a row; rows: label -> (m, *patch_shape)."""
    label, gap = dots(1.12), dots(0.06)
    shape = next(iter(rows.values())).shape
    scale = scale_to(TILE, max(shape[1:3]))
    high, wide = shape[1] * scale, shape[2] * scale
    board = Board(ALL, 2 * MARGIN + len(rows) * (high + gap) - gap)
    for line, (name, tiles) in enumerate(rows.items()):
        top = MARGIN + line * (high + gap)
        board.text(MARGIN, top + high / 2, name, va="center")
        for place, tile in enumerate(tiles[: max(1, (ALL - MARGIN - label) // (wide + gap))]):
            picture = enlarged(shades(tile, pixels.largest), scale)
            board.image(picture, label + place * (wide + gap), top)
    return board.finished()


@dataclass(frozen=True)
class RebuiltRow:
    """An image and its versions: title, original, and for each K the image and its MSE."""

    title: str
    original: np.ndarray
    versions: dict[int, tuple[np.ndarray, float]]


def rebuilt_plate(rows: Sequence[RebuiltRow], pixels: PixelScale) -> Figure:
    """For each image the original, then its versions by K, with the MSE under each.

    Large images are reduced, and their titles say so.
    """
    cells = 1 + max(len(row.versions) for row in rows)
    lines = -(-cells // MOST_IN_A_ROW)
    across = -(-cells // lines)
    height, width = rows[0].original.shape[:2]
    gap = dots(0.09)
    pitch = min((ALL - 2 * MARGIN + gap) // across, dots(1.38))
    factor, scale = _fitting(height, width, pitch - gap)
    height, width = max(1, height // factor), max(1, width // factor)
    high, wide = scale * height, scale * width
    cell_high = high + 2 * TEXT_LINE + dots(0.1)
    block = dots(0.24) + lines * cell_high
    board = Board(ALL, MARGIN + len(rows) * block)
    for number_of_row, row in enumerate(rows):
        top = MARGIN + number_of_row * block
        title = row.title if factor == 1 else f"{row.title}, shown at 1/{factor} of its size"
        board.text(MARGIN, top, title, fontsize=NORMAL)
        entries = [("original", "", row.original)] + [
            (f"K = {k:,}", f"MSE {number(mse)}", image) for k, (image, mse) in row.versions.items()
        ]
        for place, (name, score, image) in enumerate(entries):
            left = MARGIN + (place % across) * pitch
            upper = top + dots(0.24) + (place // across) * cell_high
            picture = enlarged(shades(reduced(image, factor), pixels.largest), scale)
            board.image(picture, left, upper)
            for step, words in enumerate((name, score)):
                below = upper + high + dots(0.04) + step * (TEXT_LINE - dots(0.02))
                colour = GREY if step else "black"
                board.text(left + wide / 2, below, words, ha="center", fontsize=SMALL, color=colour)
    return board.finished()


def shown_width(figure: Figure) -> int:
    """Width in CSS pixels: two dots of the figure to a pixel, so that tiles stay sharp."""
    return round(figure.get_figwidth() * DPI / 2)
