"""What the figures' axes share: ticks, colours of many K, names at the ends of lines."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.optimize import isotonic_regression

from analysis.html_report.figures.style import OKABE_ITO, SMALL

COUNT_OF_CENTROIDS = "number of centroids K"
_FEW_CURVES = 8  # named one by one; more are told by a few
# (at least this many times the smallest, multiples of powers of ten that get a label)
_LOG_STEPS = (
    (300, (1.0,)),
    (60, (1.0, 3.0)),
    (12, (1.0, 2.0, 5.0)),
    (0, (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)),
)
_DIGITS = 6
_LINE = 1.25  # height of a line of text, in font sizes
BESIDE_AXES = 0.8  # of a figure's height in inches: what title and labels take
MARKERS, _DASHES = "osD^vPX*", ("-", "--", "-.", ":")


def name_panel(axes: Axes, letter: str, words: str) -> None:
    """The panel's letter and what it shows, above it."""
    # an em space: an SVG makes one of several blanks
    axes.set_title(f"{letter}\u2003{words}")


def written_out(value: float) -> str:
    """A tick's number, 0 or more, with thousands parted and without an exponent."""
    digits = np.format_float_positional(value, precision=_DIGITS, fractional=False, trim="-")
    whole, point, part = digits.partition(".")
    return f"{int(whole):,}{point}{part}"


THOUSANDS = FuncFormatter(lambda value, _: written_out(value))


def k_axis(axes: Axes, k: Sequence[int] | np.ndarray) -> None:
    """K from left to right, logarithmic where there are several; one alone is the only tick."""
    if len(k) > 1:
        axes.set_xscale("log")
    else:
        axes.set_xticks([k[0]], [f"{k[0]:,.0f}"])
    axes.set_xlabel(COUNT_OF_CENTROIDS)


def plain_log_ticks(axes: Axes) -> None:
    """Ticks at round numbers, written out; the more, the fewer powers of ten there are."""
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() != "log":
            continue
        low, high = axis.get_view_interval()
        steps = next(steps for span, steps in _LOG_STEPS if high / low > span)
        axis.set_major_locator(LogLocator(subs=steps))
        axis.set_minor_locator(LogLocator(subs=tuple(range(2, 10))))
        axis.set_major_formatter(THOUSANDS)
        axis.set_minor_formatter(NullFormatter())


def shades_of_k(n: int) -> list[Any]:
    """Colours from dark (small K) to light; also told apart in grey."""
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.88, n)))


def a_few_sizes(sizes: Sequence[int], most: int = 6) -> list[int]:
    """A few K (of an ascending list), evenly spread on a logarithmic axis, the ends among them."""
    logs = np.log(sizes)
    wanted = np.linspace(logs[0], logs[-1], most)
    return [sizes[place] for place in sorted({int(np.abs(logs - at).argmin()) for at in wanted})]


def legend_of_k(axes: Axes, sizes: Sequence[int]) -> None:
    """Names each curve by its K, or some of them where they are many."""
    colours = shades_of_k(len(sizes))
    step = -(-len(sizes) // _FEW_CURVES)
    chosen = sorted({*range(0, len(sizes), step), len(sizes) - 1})
    handles = [Line2D([], [], color=colours[index], label=f"{sizes[index]:,}") for index in chosen]
    axes.legend(
        handles=handles,
        title="K",
        title_fontsize=SMALL,
        handlelength=1.2,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )


def lines_over_k(
    axes: Axes, k: np.ndarray, lines: Mapping[str, np.ndarray], top: float, height: float
) -> None:
    """Lines over K from 0 to `top`, told apart in colour and in grey, named at their ends.

    lines: name -> (n,) values. height: of the figure, inches.
    """
    colours = [OKABE_ITO[place % len(OKABE_ITO)] for place in range(len(lines))]
    for place, (name, values) in enumerate(lines.items()):
        again = place // len(OKABE_ITO)  # of lines that share a colour
        axes.plot(
            k,
            values,
            label=name,
            color=colours[place],
            marker=MARKERS[place % len(MARKERS)],
            linestyle=_DASHES[(place + again) % len(_DASHES)],
            markerfacecolor="none" if again else None,
        )
    k_axis(axes, k)
    plain_log_ticks(axes)
    axes.set_ylim(0, top)
    ends = [float(values[-1]) for values in lines.values()]
    name_ends(axes, list(zip(ends, lines, colours, strict=True)), height - BESIDE_AXES)


def name_ends(
    axes: Axes,
    ends: Sequence[tuple[float, str, Any]],
    height: float,
    starts: Sequence[float] | None = None,
) -> None:
    """Write a name right of the axes at the end of each line, none over another.

    ends: (y, name, colour) of each; y: within the limits, which like the scale are final.
    height: of the axes in inches, about. starts: x of the lines' last points; None: where the axes
    end.
    """
    scaled = axes.yaxis.get_transform().transform
    low, high = scaled(np.array(axes.get_ylim()))
    order = sorted(range(len(ends)), key=lambda index: ends[index][0])
    wanted = np.array([(float(scaled(ends[index][0])) - low) / (high - low) for index in order])
    line = SMALL * _LINE / 72 / height
    places = spread(wanted, line)
    for index, at, place in zip(order, wanted, places, strict=True):
        y, name, colour = ends[index]
        axes.annotate(
            name,
            (1.0, at) if starts is None else (starts[index], y),
            xytext=(1.06, place),
            xycoords="axes fraction" if starts is None else "data",
            textcoords="axes fraction",
            fontsize=SMALL,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "linewidth": 0.6,
                "linestyle": "-" if starts is None else (0, (1, 2)),  # none of the curves
                "color": colour,
                "shrinkA": 0,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )


def spread(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Places in 0 … 1, at least `gap` apart and as near to those wanted (ascending) as can be.

    Where that many gaps do not fit, they are as large as fit.
    """
    n = len(wanted)
    gap = min(gap, 1 / max(1, n - 1))
    steps = gap * np.arange(n)
    # Least squares under places[i + 1] >= places[i] + gap; clipping keeps that, and is the optimum.
    level: np.ndarray = isotonic_regression(wanted - steps).x
    return np.clip(level, 0, max(0.0, 1 - gap * (n - 1))) + steps
