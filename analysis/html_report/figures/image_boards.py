"""Boards on which images are laid dot by dot, and the measures that figures of images share."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from analysis.html_report.figures.style import DPI, GREY, NORMAL, SMALL, WIDTH
from analysis.measures.pixel_scale import PixelScale, enlarged, scale_to, shades

TALL = 2  # widths of its room that an image may be high
_FRAME = 150  # shade of the hairline around an image


def dots(inches: float) -> int:
    """Length on a board."""
    return round(inches * DPI)


BOARD_WIDTH = dots(WIDTH)
MARGIN = dots(0.06)
GAP = dots(0.06)  # between patches
TEXT_LINE = dots(0.155)
TILE = dots(0.34)  # of a patch
PAIR_GAP = 6  # between a patch and its centroid
NUMBER_WIDTH = dots(0.36)  # room for an index of five digits


class Board:
    """A white figure measured in dots from its top left corner, on which images are not resampled.

    width, height: in dots.
    """

    def __init__(self, width: int, height: int) -> None:
        self._figure = Figure(figsize=(width / DPI, height / DPI))
        # With opacity: matplotlib takes twice the memory and the time to add it.
        self._canvas = np.full((height, width, 4), 255, np.uint8)
        self._canvas[..., 3] = 0  # where nothing lies the paper is seen, which is white in files

    def image(self, pixels: np.ndarray, left: int, top: int, *, frame: bool = True) -> None:
        """Lay an image with its top left corner at (left, top); pixels: (height, width, 3) uint8.

        What reaches beyond the board is cut off. frame: a hairline around it, outside its pixels.
        """
        if frame:
            pixels = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), constant_values=_FRAME)
            left, top = left - 1, top - 1
        room = self._canvas[top : top + len(pixels), left : left + pixels.shape[1]]
        room[..., :3] = pixels[: len(room), : room.shape[1]]
        room[..., 3] = 255

    def levels(
        self, values: np.ndarray, pixels: PixelScale, scale: int, left: int, top: int
    ) -> None:
        """Lay an image given in pixel levels, each pixel a square of scale × scale dots."""
        self.image(enlarged(shades(values, pixels.white, pixels.black), scale), left, top)

    def text(self, left: float, top: float, words: str, **style: Any) -> None:
        """Write words at (left, top); by default at the left, their top at `top`."""
        given: dict[str, Any] = {"va": "top", "ha": "left", "fontsize": NORMAL} | style
        height, width = self._canvas.shape[:2]
        self._figure.text(left / width, 1 - top / height, words, **given)

    def finished(self) -> Figure:
        """The figure, with all images in one, which has a dot for each dot of the board."""
        axes = self._figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        # "none": an SVG gets the pixels themselves, and the word that they are not to be blurred.
        axes.imshow(self._canvas, interpolation="none", aspect="auto")
        return self._figure


class Pairs:
    """Patches above their centroids, with words below each pair: how large, and laid on a board.

    shape: of a patch. lines: of words.
    """

    def __init__(self, shape: Sequence[int], pixels: PixelScale, lines: int) -> None:
        self._scale, self._pixels = scale_to(TILE, max(shape[:2])), pixels
        self.high, self._wide = (self._scale * length for length in shape[:2])
        self.pitch = max(self._wide + GAP, NUMBER_WIDTH)
        self.words_at = 2 * self.high + PAIR_GAP + dots(0.03)
        self.block = 2 * self.high + PAIR_GAP + lines * TEXT_LINE + dots(0.13)

    def lay(
        self,
        board: Board,
        left: int,
        top: int,
        tiles: Sequence[np.ndarray],
        words: Sequence[str],
    ) -> None:
        """Lay a patch and its centroid, with lines of words below, the last in grey."""
        for step, tile in enumerate(tiles):
            lower = top + step * (self.high + PAIR_GAP)
            board.levels(tile, self._pixels, self._scale, left, lower)
        for step, line in enumerate(words):
            colour = GREY if step == len(words) - 1 else "black"
            middle, below = left + self._wide / 2, top + self.words_at + step * TEXT_LINE
            board.text(middle, below, line, ha="center", fontsize=SMALL, color=colour)


def rows_of_images(
    rows: Mapping[str, Any], pixels: PixelScale, scale: int, label: int, gap: int
) -> Figure:
    """Name -> images in a row, as many as fit; label: room for the names."""
    firsts = [images[0].shape[:2] for images in rows.values()]  # all of a row have one size
    high, wide = (scale * max(lengths) for lengths in zip(*firsts, strict=True))
    board = Board(BOARD_WIDTH, 2 * MARGIN + len(rows) * (high + gap) - gap)
    most = max(1, (BOARD_WIDTH - MARGIN - label) // (wide + gap))
    for line, (name, images) in enumerate(rows.items()):
        top = MARGIN + line * (high + gap)
        board.text(MARGIN, top + high / 2, name, va="center")
        for place, image in enumerate(images[:most]):
            board.levels(image, pixels, scale, label + place * (wide + gap), top)
    return board.finished()


def fitting(height: int, width: int, room: int) -> tuple[int, int]:
    """Factors by which an image is reduced, then enlarged, to be at most so wide and TALL so high.

    room: in dots.
    """
    factor = max(-(-width // room), -(-height // (TALL * room)))
    scale = min(
        scale_to(room, max(1, width // factor)), scale_to(TALL * room, max(1, height // factor))
    )
    return factor, scale
