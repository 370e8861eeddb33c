"""Curves of several experiments in one figure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.html_report.figures.axes import (
    BESIDE_AXES,
    MARKERS,
    k_axis,
    name_ends,
    name_panel,
    plain_log_ticks,
)
from analysis.html_report.figures.style import INK, OKABE_ITO, SMALL, WIDTH, new_figure

PIXELS = "pixels"  # attribute of a curve: unit and range of the levels
_HEIGHT = 3.4  # inches
_SHORT, _LONGEST = 22, 60  # letters of a name: longer ones make the figure wider, up to an end
_LETTER = 0.6 / 72  # width of a letter, inches for a point of its size
_TRAINING: dict[str, Any] = {"linestyle": "-"}
_HELD_OUT: dict[str, Any] = {
    "linestyle": (0, (3, 2)),
    "linewidth": 0.9,
    "markerfacecolor": "white",
    "markersize": 3,
    "zorder": 1.5,  # behind the training curves
}


def comparison_figure(curves: Mapping[str, xarray.Dataset], common: str) -> Figure:
    """MSE against K; beside it PSNR against K where the curves' pixels have different ranges.

    curves: name -> scores as `mse_curve` returns them, with heldout_psnr and the attribute PIXELS.
    common: what is true of all.
    """
    figure = new_figure(_HEIGHT)
    longest = min(_LONGEST, max(map(len, curves)))
    figure.set_figwidth(WIDTH + SMALL * _LETTER * max(0, longest - _SHORT))
    mixed = len({curve.attrs[PIXELS] for curve in curves.values()}) > 1
    first, *others = np.atleast_1d(figure.subplots(1, 1 + mixed))
    _draw(first, curves, "mse")
    if mixed:
        first.set_ylabel("MSE (squared levels, each of its own range)")
        name_panel(first, "a", "mean squared error")
        _draw(others[0], curves, "psnr")
        others[0].set_ylabel("PSNR (dB)")
        name_panel(others[0], "b", "peak signal-to-noise ratio")
    else:
        (unit,) = {curve["mse"].attrs["units"] for curve in curves.values()}
        first.set_ylabel(f"MSE ({unit})")
        first.set_title(_literal(common))
    last = (first, *others)[-1]
    _name(last, curves, "psnr" if mixed else "mse")
    if any(np.isfinite(curve["heldout_mse"]).any() for curve in curves.values()):
        forms = {"training": _TRAINING, "held out": _HELD_OUT}
        first.legend(
            handles=[Line2D([], [], color=INK, label=name, **form) for name, form in forms.items()],
            loc="best",
        )
    return figure


def _literal(name: str) -> str:
    """A name as matplotlib writes it as it is, in the middle shortened where it is long."""
    half = _LONGEST // 2
    name = name if len(name) <= _LONGEST else f"{name[:half]}…{name[-half:]}"
    return name.replace("$", r"\$")


def _colour(place: int) -> str:
    return OKABE_ITO[place % len(OKABE_ITO)]


def _draw(axes: Axes, curves: Mapping[str, xarray.Dataset], score: str) -> None:
    """A line for each curve, dashed for held-out patches; what is no number is left out."""
    for place, curve in enumerate(curves.values()):
        # the ninth has the first one's colour, and another marker
        marker = MARKERS[(place + place // len(OKABE_ITO)) % len(MARKERS)]
        looks: dict[str, Any] = {"color": _colour(place), "marker": marker}
        for name, form in ((score, _TRAINING), (f"heldout_{score}", _HELD_OUT)):
            values = curve[name].values
            shown = np.isfinite(values) & ((values > 0) | (score == "psnr"))
            axes.plot(curve["k"].values[shown], values[shown], **looks, **form)
    k_axis(axes, np.unique(np.concatenate([curve["k"].values for curve in curves.values()])))
    if score == "mse":
        axes.set_yscale("log")
    plain_log_ticks(axes)


def _name(axes: Axes, curves: Mapping[str, xarray.Dataset], score: str) -> None:
    """The names of the curves, right of the axes at their ends."""
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())
    ends, starts = [], []
    for place, (name, curve) in enumerate(curves.items()):
        last = curve[score].values[-1]
        within = float(np.clip(last, *axes.get_ylim()))
        ends.append((within, _literal(name), _colour(place)))
        starts.append(float(curve["k"].values[-1]))
    name_ends(axes, ends, _HEIGHT - BESIDE_AXES, starts)
