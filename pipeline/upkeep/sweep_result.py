"""What a sweep made, as people see it: a table, and in a notebook a curve beside it."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from pipeline.runtime.progress import rounded

_HEAD = ("K", "MSE", "held-out", "live", "passes", "seconds", "")
_IN_PIXELS = "MSE in pixels, of patches that keep their own brightness and contrast"


class SweepResult(dict[str, Any]):
    """What a sweep made: a dict, plain JSON, that shows itself as a table and, in HTML, a curve.

    Its keys are those that `sweep` names.
    """

    def __repr__(self) -> str:
        return f"{self._title}\n{in_words(self['dictionaries'])}"

    def _repr_html_(self) -> str:
        entries = self["dictionaries"]
        head, *rows = (map(escape, row) for row in _table(entries))
        wide = "style='text-align:right;padding:.15em .6em'"
        lines = [f"<tr><th {wide}>{f'</th><th {wide}>'.join(head)}</th></tr>"]
        lines += [f"<tr><td {wide}>{f'</td><td {wide}>'.join(row)}</td></tr>" for row in rows]
        curve = _curve([(entry["k"], _scores(entry)[0]) for entry in entries])
        note = f"<div>{_IN_PIXELS}</div>" if _in_pixels(entries) else ""
        return (
            f"<div>{escape(self._title)}</div><div style='display:flex;flex-wrap:wrap;gap:2em;"
            f"align-items:center'><table>{''.join(lines)}</table>{curve}</div>{note}"
        )

    @property
    def _title(self) -> str:
        name = self["experiment"].rpartition("/")[2]
        return f"{name}: {self['rows']:,} patches of {self['dim']} values"


def in_words(entries: Sequence[dict[str, Any]]) -> str:
    """The `dictionaries` of a sweep as the lines of a table."""
    rows = _table(entries)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.rjust, row, widths)).rstrip() for row in rows]
    return "\n".join(lines + [_IN_PIXELS] * _in_pixels(entries))


def _table(entries: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """A head, and a line for each dictionary; a column that says nothing of any is left out."""
    lines = [
        (
            str(entry["k"]),
            *("" if score is None else rounded(score) for score in _scores(entry)),
            str(entry["live"]),
            str(entry["passes"]),
            f"{entry['seconds']:.1f}",
            "reused" * entry["reused"],
        )
        for entry in entries
    ]
    columns = [column for column in zip(_HEAD, *lines, strict=True) if any(column[1:])]
    return [*zip(*columns, strict=True)]


def _scores(entry: dict[str, Any]) -> tuple[float, float | None]:
    """MSE of training and of held-out patches; of preprocessed ones in pixels, as in the report."""
    if "pixel_mse" in entry:
        return entry["pixel_mse"], entry.get("heldout_pixel_mse")
    return entry["mse"], entry["heldout_mse"]


def _in_pixels(entries: Sequence[dict[str, Any]]) -> bool:
    return any("pixel_mse" in entry for entry in entries)


def _curve(points: list[tuple[int, float]]) -> str:
    """The MSE over K on logarithmic axes, as SVG; nothing of a single point, or of an MSE of 0."""
    if len(points) < 2 or min(mse for _, mse in points) <= 0:
        return ""
    logs = [(math.log(k), math.log(mse)) for k, mse in points]
    left, right = logs[0][0], logs[-1][0]
    heights = [y for _, y in logs]  # of which that in pixels may rise with K
    top, span = max(heights), max(max(heights) - min(heights), 1e-9)
    places = [
        (60 + 220 * (x - left) / (right - left), 20 + 110 * (top - y) / span) for x, y in logs
    ]
    dots = "".join(
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5'><title>K = {k}: MSE {rounded(mse)}</title>"
        "</circle>"
        for (x, y), (k, mse) in zip(places, points, strict=True)
    )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    (x, y), (last, end) = places[0], places[-1]
    return (
        "<svg width='320' height='175' viewBox='0 0 320 175' role='img' aria-label='MSE over K'"
        " fill='currentColor' font-size='11' font-family='sans-serif'>"
        "<path d='M45 10V145H300' fill='none' stroke='currentColor' stroke-opacity='.4'/>"
        f"<polyline points='{line}' fill='none' stroke='#2a78c2' stroke-width='1.5'/>"
        f"<g fill='#2a78c2'>{dots}</g><g text-anchor='middle'>"
        f"<text x='{x:.0f}' y='160'>{points[0][0]}</text>"
        f"<text x='{last:.0f}' y='160'>{points[-1][0]}</text><text x='170' y='172'>K</text></g>"
        f"<g text-anchor='end'><text x='42' y='{y + 4:.0f}'>{rounded(points[0][1])}</text>"
        f"<text x='42' y='{end + 4:.0f}'>{rounded(points[-1][1])}</text></g>"
        "<text x='48' y='12'>MSE</text></svg>"
    )
