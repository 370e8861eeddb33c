"""The figures' common look, their files, and a board on which images are laid pixel by pixel."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

DPI = 200
WIDTH = 7.0  # inches, of every figure but the galleries: two columns of a paper
SMALL, NORMAL = 7.0, 8.0  # points
# Okabe and Ito's colours, told apart by colour-blind readers
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
INK = "#1c1c1c"
# all of them, but grey for yellow, which is lost on white
OKABE_ITO = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY)
_FRAME = 150  # shade of the hairline around an image

STYLE: dict[str, Any] = {
    "font.family": "sans-serif",
    # The first comes with matplotlib: the same everywhere. The others are for readers of an SVG.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial"],
    "font.size": NORMAL,
    "text.color": INK,
    "axes.labelsize": NORMAL,
    "axes.labelcolor": INK,
    "axes.titlesize": NORMAL,
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.fontsize": SMALL,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "figure.dpi": DPI,
    "savefig.dpi": "figure",
    "savefig.facecolor": "white",
    "svg.fonttype": "none",  # text that can be edited and searched
    "svg.hashsalt": "patchdict",  # the same ids every time
}


@contextmanager
def styled() -> Iterator[None]:
    """Figures made and saved inside have the common look."""
    with mpl.rc_context(cast(Any, STYLE)):  # typed by a list of all names
        yield


def new_figure(height: float) -> Figure:
    """A figure of the common width; height in inches."""
    return Figure(figsize=(WIDTH, height), layout="constrained")


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file of DPI dots per inch, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file with its text as text, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


class Board:
    """A white figure measured in dots from its top left corner, on which images are not resampled.

    width, height: in dots.
    """

    def __init__(self, width: int, height: int) -> None:
        self._figure = Figure(figsize=(width / DPI, height / DPI))
        # With opacity: matplotlib takes twice the memory and the time to add it.
        self._canvas = np.full((height, width, 4), 255, np.uint8)

    def image(self, pixels: np.ndarray, left: int, top: int, *, frame: bool = True) -> None:
        """Lay an image with its top left corner at (left, top); pixels: (height, width, 3) uint8.

        What reaches beyond the board is cut off. frame: a hairline around it, outside its pixels.
        """
        if frame:
            pixels = np.pad(pixels, ((1, 1), (1, 1), (0, 0)), constant_values=_FRAME)
            left, top = left - 1, top - 1
        room = self._canvas[top : top + len(pixels), left : left + pixels.shape[1]]
        room[..., :3] = pixels[: len(room), : room.shape[1]]

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


def dots(inches: float) -> int:
    """Length on a board."""
    return round(inches * DPI)
