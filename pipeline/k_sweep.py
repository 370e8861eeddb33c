"""The sweep: patches once, then a dictionary for every K, each written as soon as it is learned.

One that finds everything done loads no engine: neither torch, numba nor dask.
"""

from contextlib import suppress
from dataclasses import replace
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
from pipeline.runtime.memory import spare_the_heap
from pipeline.runtime.progress import Progress, shown
from pipeline.upkeep.sweep_result import SweepResult
from storage.atomic import write_whole
from storage.dictionary_store import check_dictionaries, finished_dictionaries
from storage.errors import BusyError
from storage.images.labels import labels_file
from storage.images.source import open_images
from storage.layout import group_name, patch_stores

SCORES = ("k", "mse", "sse", "heldout_mse", "passes", "rows_seen", "seconds", "live")
TIGHT = 640 << 20  # bytes of a cap under which extraction may leave no room for a compiler
PIXEL_SCORES = ("pixel_mse", "heldout_pixel_mse")  # of preprocessed patches


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
    spare_the_heap()  # before there are threads
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
