"""The sweep: patches once, then a dictionary for every K, each written as soon as it is learned.

One that finds everything done loads no engine: neither torch, numba nor dask.
"""

import math
from contextlib import suppress
from dataclasses import replace
from html import escape
from typing import Any

import numpy as np

from pipeline.config import SweepOptions
from pipeline.engines import EngineSpec
from pipeline.execution.scheduler import Scheduler
from pipeline.experiment import Experiment
from pipeline.extraction.extract import open_split
from pipeline.kmeans.compilation import compile_apart
from pipeline.preprocessing import Preprocessing, is_asked_for
from pipeline.runtime.devices import resolve_device
from pipeline.runtime.machine import place
from pipeline.runtime.progress import Progress, rounded, shown
from storage.atomic import write_whole
from storage.dictionary_store import check_dictionaries, finished_dictionaries
from storage.errors import BusyError
from storage.images.labels import labels_file
from storage.images.source import open_images
from storage.layout import group_name, patch_stores

SCORES = ("k", "mse", "sse", "heldout_mse", "passes", "rows_seen", "seconds", "live")
TIGHT = 640 << 20  # bytes of a cap under which extraction may leave no room for a compiler
PIXEL_SCORES = ("pixel_mse", "heldout_pixel_mse")  # of preprocessed patches


class SweepResult(dict[str, Any]):
    """What a sweep made: a dict, plain JSON, that shows itself as a table and, in HTML, a curve.

    Its keys are those that `sweep` names.
    """

    def __repr__(self) -> str:
        rows = self._table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(map(str.rjust, row, widths)).rstrip() for row in rows]
        return "\n".join([self._title, *lines])

    def _repr_html_(self) -> str:
        head, *rows = (map(escape, row) for row in self._table())
        wide = "style='text-align:right;padding:.15em .6em'"
        lines = [f"<tr><th {wide}>{f'</th><th {wide}>'.join(head)}</th></tr>"]
        lines += [f"<tr><td {wide}>{f'</td><td {wide}>'.join(row)}</td></tr>" for row in rows]
        curve = _curve([(entry["k"], entry["mse"]) for entry in self["dictionaries"]])
        return (
            f"<div>{escape(self._title)}</div><div style='display:flex;flex-wrap:wrap;gap:2em;"
            f"align-items:center'><table>{''.join(lines)}</table>{curve}</div>"
        )

    @property
    def _title(self) -> str:
        name = self["experiment"].rpartition("/")[2]
        return f"{name}: {self['rows']:,} patches of {self['dim']} values"

    def _table(self) -> list[tuple[str, ...]]:
        """A head, and a line for each dictionary."""
        head = ("K", "MSE", "held out", "passes", "seconds", "")
        lines = [
            (
                str(entry["k"]),
                rounded(entry["mse"]),
                "" if entry["heldout_mse"] is None else rounded(entry["heldout_mse"]),
                str(entry["passes"]),
                f"{entry['seconds']:.1f}",
                "found" if entry["reused"] else "learned",
            )
            for entry in self["dictionaries"]
        ]
        columns = [column for column in zip(head, *lines, strict=True) if any(column[1:])]
        return [*zip(*columns, strict=True)]


def _curve(points: list[tuple[int, float]]) -> str:
    """The MSE over K on logarithmic axes, as SVG; nothing of a single point, or of an MSE of 0."""
    if len(points) < 2 or min(mse for _, mse in points) <= 0:
        return ""
    logs = [(math.log(k), math.log(mse)) for k, mse in points]
    (left, top), (right, bottom) = logs[0], logs[-1]
    span = max(top - bottom, 1e-9)
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


def sweep(options: SweepOptions, progress: Progress | None = None) -> SweepResult:
    """Extract the patches and learn a dictionary for every K, ascending.

    What is there already is used: patch stores of the same images and spec, dictionaries of the
    same configuration. Each new dictionary is written at once, whole. A sweep that was broken off
    goes on from its last pass; on the same kind of engine and device its numbers are those of one
    that was not, bit for bit.

    Args:
        options: of the sweep.
        progress: an observer; None: in a notebook a line that is drawn anew, else nobody looks.

    Returns:
        A dict, plain JSON, which shows itself as a table, of experiment, store, rows, dim, reused,
        repaired (damaged chunks of patches that were written again), and `dictionaries`, one entry
        per K with k, mse, sse, heldout_mse, passes, rows_seen, seconds, live, path, reused; of
        preprocessed patches, which mse is of, also pixel_mse and heldout_pixel_mse, in squared
        pixel levels.

    Raises:
        InputError: for options that do not fit the images or this machine.
        IntegrityError: for stores that are damaged, or of other options.
        MemoryBudgetError: where the cap is too small.
        BusyError: where another sweep holds the experiment, or dictionaries were dropped as this
            one ended.
    """
    options = options.on(resolve_device(options.device).type)  # refused before any work is done
    labels = None
    if options.labels is not None:
        stated = replace(options.stated, labels=options.labels)
        labels = labels_file(open_images(options.dataset, data_dir=options.data, options=stated))
    with (
        shown(progress) as progress,
        Scheduler(options.scheduler, options.memory, progress) as scheduler,
    ):
        # test images that do not fit are refused before the work on the others
        opened = {
            split: open_split(options, split, scheduler, progress) for split in options.splits
        }
        if options.memory < TIGHT and not patch_stores(options.out):
            dtype = _row_dtype(options, opened["train"].images.dtype)
            compile_apart(options, dtype, options.memory, progress)
        found = {split: opened.pop(split).done_under(options.out) for split in options.splits}
        train = found["train"].store
        test = found["test"].store if "test" in found else None
        experiment = Experiment(options, train, test)
        learned = _complete(experiment, scheduler, progress)
    if labels is not None:
        write_whole(experiment.layout.labels, labels)
    return SweepResult(
        experiment=str(experiment.folder),
        store=str(train.path),
        rows=train.n_rows,
        dim=train.dim,
        reused=all(extracted.reused for extracted in found.values()),
        repaired=sum(extracted.repaired for extracted in found.values()),
        dictionaries=_entries(experiment, learned),
    )


def _row_dtype(options: SweepOptions, pixels: np.dtype) -> np.dtype:
    """Of the rows that are learned from."""
    return Preprocessing.dtype if is_asked_for(options) else pixels


def _complete(experiment: Experiment, scheduler: Scheduler, progress: Progress) -> list[int]:
    """Learn the dictionaries that are missing. Returns: their K."""
    options, train = experiment.options, experiment.train
    dtype = _row_dtype(options, train.dtype)
    device = resolve_device(options.device, dtype)
    engine = EngineSpec.resolve(options.engine, device, train.dim, dtype)
    progress.note(f"{train.n_rows:,} rows of {train.dim}, {place(options.device, engine)}")
    path = experiment.layout.dictionaries
    check_dictionaries(path, experiment.describe())
    stored = finished_dictionaries(path)
    missing = [k for k in options.sizes if k not in stored]
    if missing:
        compile_apart(options, dtype, options.memory, progress)
        from pipeline.dictionaries import learn_dictionaries  # loads numba, which takes a second

        learn_dictionaries(experiment, missing, engine, scheduler, progress)
    elif experiment.leftovers(stored):
        with suppress(BusyError, OSError), experiment.owned():
            experiment.remove_leftovers(stored)
    return missing


def _entries(experiment: Experiment, learned: list[int]) -> list[dict[str, Any]]:
    path = experiment.layout.dictionaries
    scores = finished_dictionaries(path)
    if gone := [k for k in experiment.options.sizes if k not in scores]:
        raise BusyError(
            f"K = {', '.join(map(str, gone))} of {experiment.folder} was dropped by another process"
            " as this sweep ended: run the same sweep again"
        )
    return [
        {name: scores[k][name] for name in SCORES}
        | {name: scores[k][name] for name in PIXEL_SCORES if name in scores[k]}
        | {"path": str(path / group_name(k)), "reused": k not in learned}
        for k in experiment.options.sizes
    ]
