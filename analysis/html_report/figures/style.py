"""The common look of all figures, and their files."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure

DPI = 200  # of a board, whose dots are those of its PNG
PRINT_DPI = 300  # of the PNG of a drawing
WIDTH = 7.0  # inches, of every figure but the galleries: two columns of a paper
SMALL, NORMAL = 7.0, 8.0  # points
# Okabe and Ito's colours, told apart by colour-blind readers
BLUE, VERMILION, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#6b6b6b"
INK = "#1c1c1c"
BAND = "#e9e9e4"  # behind the curves
# all of them, but grey for yellow, which is lost on white
OKABE_ITO = (BLUE, VERMILION, GREEN, "#CC79A7", "#E69F00", "#56B4E9", "#000000", GREY)

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
    "pdf.fonttype": 42,  # text of its letters, not their outlines
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


def to_png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as a PNG file of so many dots per inch, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """The figure as a PDF file, the same bytes every time."""
    buffer = io.BytesIO()
    nothing = dict.fromkeys(("Creator", "Producer", "CreationDate"))
    figure.savefig(buffer, format="pdf", metadata=nothing)
    return buffer.getvalue()


def to_svg(figure: Figure) -> bytes:
    """The figure as an SVG file with its text as text, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()
