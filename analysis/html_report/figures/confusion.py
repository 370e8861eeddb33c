"""Which class is taken for which, drawn."""

import numpy as np
from matplotlib.figure import Figure

from analysis.classification.accuracy import wilson_interval
from analysis.html_report.figures.axes import name_panel
from analysis.html_report.figures.style import BLUE, INK, SMALL, new_figure

NUMBERED_CLASSES = 16  # of a confusion matrix whose cells have numbers
NAMED_CLASSES = 60  # on its axes
DARK = 0.6  # of the largest share of mistakes: a cell whose number is white


def confusion_figure(matrix: np.ndarray, names: list[str]) -> Figure:
    """Mistakes in colour, and the share of each class that is told right.

    matrix: (class, told) images.
    """
    n, images = len(names), np.maximum(matrix.sum(axis=1), 1)
    figure = new_figure(min(6.0, max(2.4, 1.0 + 0.26 * n)))
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    shares = 100 * matrix / images[:, np.newaxis]
    np.fill_diagonal(shares, 0)
    top, edges = max(float(shares.max()), 1e-9), np.arange(n + 1) - 0.5
    cells = left.pcolormesh(edges, edges, shares, cmap="Blues", vmin=0, vmax=top)
    name_panel(left, "a", "what classes are told to be")
    for axes in (left, right):
        axes.set_ylim(n - 0.5, -0.5)
        if n <= NAMED_CLASSES:
            axes.set_yticks(range(n), names)
    if n <= NAMED_CLASSES:
        left.set_xticks(range(n), names, rotation=0 if max(map(len, names)) <= 2 else 90)
    if n <= NUMBERED_CLASSES:
        for (own, told), count_of in np.ndenumerate(matrix):
            if count_of:
                dark = own != told and shares[own, told] > DARK * top
                colour = "white" if dark else INK
                place = {"ha": "center", "va": "center", "fontsize": SMALL}
                left.text(told, own, f"{count_of}", color=colour, **place)
    left.set_xlabel("told to be")
    left.set_ylabel("class")
    figure.colorbar(cells, ax=left, label="mistakes (per cent of the class)")
    own = np.diagonal(matrix)
    low, high = np.array(
        [wilson_interval(int(a), int(b)) for a, b in zip(own, images, strict=True)]
    ).T
    middle = own / images
    bars = 100 * np.maximum([middle - low, high - middle], 0)
    right.errorbar(100 * middle, range(n), xerr=bars, fmt="o", color=BLUE, capsize=2)
    name_panel(right, "b", "told right")
    right.set_xlabel("per cent of the class")
    return figure
