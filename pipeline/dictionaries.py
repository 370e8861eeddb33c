"""Learns the dictionaries that an experiment lacks; loads the engines, which others do without."""

import hashlib
import time
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.engines import EngineSpec
from pipeline.engines.nearest import NearestCentroids
from pipeline.execution.scheduler import Scheduler
from pipeline.experiment import Experiment
from pipeline.kmeans.checkpoint import FitCheckpoint
from pipeline.kmeans.fitter import Fitter
from pipeline.kmeans.history import Fit, mean_squared_error
from pipeline.kmeans.plan import FitPlan, check_preprocessing
from pipeline.kmeans.seeding import require_distinct
from pipeline.preprocessing import Preprocessing, is_asked_for
from pipeline.rows.residuals import residuals
from pipeline.rows.source import RowSource, StoreSource, map_blocks, read_ahead
from pipeline.runtime.machine import device_name, machine, versions
from pipeline.runtime.memory import peak_resident
from pipeline.runtime.progress import Progress, rounded
from storage.atomic import remove
from storage.dictionary_store import (
    Dictionary,
    create_dictionaries,
    finished_dictionaries,
    read_centroids,
    read_preprocessing,
    write_dictionary,
)
from storage.images.pixel_range import PixelRange

SHOWN_CHUNKS, SHOWN_VALUES = 32, 1 << 20  # of patches, that tell the range for pictures, at most
STEPS = 2  # raised when the same options make other numbers: no fit begun before goes on after


def learn_dictionaries(
    experiment: Experiment,
    missing: list[int],
    engine: EngineSpec,
    scheduler: Scheduler,
    progress: Progress,
) -> None:
    """Learn what is missing, K ascending, and write each dictionary as soon as it is learned.

    Raises: InputError for fewer distinct rows than centroids, MemoryBudgetError; both before
        anything is written. BusyError where another sweep holds the experiment.
    """
    options, path = experiment.options, experiment.layout.dictionaries
    preprocessing = _preprocessing(experiment, progress)
    rows = experiment.rows("train", preprocessing)
    assert rows is not None  # those of any experiment
    plan = FitPlan.make(
        rows,
        missing,
        options,
        engine,
        scheduler,
        scratch=experiment.scratch,
        memory=options.memory,
        device_memory=options.device_memory,
        heldout_rows=experiment.heldout_rows,
    )
    for note in plan.notes:
        progress.note(note)
    require_distinct(plan.source, plan.largest)
    plan = plan.preflight(progress)
    with experiment.owned(), closing(Fitter(plan, progress)) as fitter:
        stored = set(finished_dictionaries(path))  # another sweep may have been here meanwhile
        experiment.remove_leftovers(stored)
        facts = experiment.describe() if path.exists() else described(experiment)
        create_dictionaries(path, facts)
        heldout = experiment.rows("test", preprocessing)
        learning = _Learning(experiment, engine, fitter, preprocessing, heldout, progress)
        for k in options.sizes:
            if k not in stored:
                warm = options.init == "warm"
                smaller = max((m for m in stored if m < k), default=None) if warm else None
                write_dictionary(path, learning.learn(k, smaller))
                for state in experiment.layout.fit_states(k):
                    remove(state)
                stored.add(k)


def described(experiment: Experiment) -> dict[str, Any]:
    """What a new store of dictionaries records: with the range shown, where it is narrower."""
    facts, train = experiment.describe(), experiment.train
    chunks = np.unique(np.linspace(0, train.n_chunks - 1, SHOWN_CHUNKS).astype(int))
    most, random = max(1, SHOWN_VALUES // len(chunks) // train.dim), np.random.default_rng(0)
    with closing(read_ahead(StoreSource(train), chunks.tolist())) as stream:
        samples = [
            rows[random.choice(len(rows), min(most, len(rows)), replace=False)] for rows in stream
        ]
    levels = PixelRange.of_source(train.source)
    if (shown := levels.shown(np.concatenate(samples))) != levels:
        facts["source"] = facts["source"] | {"shown": [shown.black, shown.white]}
    return facts


def _preprocessing(experiment: Experiment, progress: Progress) -> Preprocessing | None:
    """That of the experiment's dictionaries, the same for all of them."""
    options, train = experiment.options, experiment.train
    if not is_asked_for(options):
        return None
    for k in finished_dictionaries(experiment.preprocessed_like):
        return Preprocessing.stored(*read_preprocessing(experiment.preprocessed_like, k))
    span = PixelRange.of_source(train.source).span
    source = StoreSource(train)
    check_preprocessing(source, options, options.memory)
    return Preprocessing.learn(source, options, span, progress)


@dataclass(frozen=True)
class _Learning:
    """How the dictionaries of one experiment are learned and scored."""

    experiment: Experiment
    engine: EngineSpec
    fitter: Fitter
    preprocessing: Preprocessing | None
    heldout: RowSource | None
    progress: Progress

    def learn(self, k: int, smaller: int | None) -> Dictionary:
        """Fit one dictionary and score it on the held-out patches.

        smaller: K of the stored dictionary that it starts from; None: of none.
        """
        started, experiment, start, mse = time.perf_counter(), self.experiment, None, np.inf
        if smaller is not None:
            start, mse = read_centroids(experiment.layout.dictionaries, smaller)
            start = start.reshape(smaller, -1)
        identity = self._identity(smaller, start)
        checkpoint = FitCheckpoint(experiment.folder, k, identity, self.progress)
        warm = smaller is not None
        self.progress.stage(self._steps(k, warm=warm), kept=False)
        fit = self.fitter.fit(k, start, mse_limit=mse, warm=warm, checkpoint=checkpoint)
        seconds = checkpoint.spent + time.perf_counter() - started
        heldout_mse = self._score(k, fit)
        in_pixels = self._in_pixels(k, fit)
        self.progress.note(
            f"K={k}: MSE {rounded(fit.mse)}"
            + ("" if heldout_mse is None else f", held-out {rounded(heldout_mse)}")
            + "".join(f", in pixels {rounded(mse)}" for mse in list(in_pixels.values())[:1])
            + f", {len(fit.history.rows)} passes, {seconds:.1f} s"
            + ("" if fit.converged else " (stopped at max-iter)")
        )
        scores = _scores(fit, heldout_mse, seconds) | in_pixels
        preprocessing = self.preprocessing
        made = {} if preprocessing is None else preprocessing.attributes
        return Dictionary(
            centroids=fit.centroids.reshape(k, *experiment.train.patch_shape),
            count=fit.sums.counts,
            sse=fit.sse,
            history=vars(fit.history),
            attributes=scores | made | self._circumstances() | {"started_from": smaller},
            preprocessing={} if preprocessing is None else preprocessing.arrays,
        )

    def _steps(self, k: int, *, warm: bool) -> dict[str, float]:
        """What its line is made of, with the share of each part."""
        steps, heldout = self.fitter.steps(k, warm=warm), self.experiment.heldout_rows
        if self.heldout:
            steps[f"K={k} held out"] = heldout
        if self.preprocessing is not None:
            steps[f"K={k} in pixels"] = self.experiment.train.n_rows + heldout
        return steps

    def _identity(self, smaller: int | None, start: np.ndarray | None) -> dict[str, Any]:
        """All that the numbers of a fit depend on: an unfinished one goes on under the same alone.

        Also how exactly the engine tells the nearest centroid: of engines that differ in it, two
        halves would make a dictionary that neither of them makes.
        """
        identity = {
            "steps": STEPS,
            "digest": self.experiment.digest,
            "exactness": self.engine.exactness,
            "started_from": smaller,
            "start": None if start is None else hashlib.sha256(start.tobytes()).hexdigest(),
        }
        if self.preprocessing is not None:
            identity["preprocessing"] = self.preprocessing.digest
        if self.preprocessing or self.experiment.train.dtype.kind == "f":
            # sums are those of the way they were added
            identity["remote"] = self.fitter.remote
        return identity

    def _score(self, k: int, fit: Fit) -> float | None:
        """MSE of the held-out patches, where there are any."""
        if self.heldout is None:
            return None
        self.progress.start(f"K={k} held out", self.heldout.n_rows, "rows")
        sums = self.fitter.score(self.heldout, fit.centroids)
        self.progress.finish()
        return mean_squared_error(sums.sse(fit.centroids), sums)

    def _in_pixels(self, k: int, fit: Fit) -> dict[str, float]:
        """MSE of preprocessed patches in pixels, each with its own mean and contrast."""
        if self.preprocessing is None:
            return {}
        found, experiment = {}, self.experiment
        stages = experiment.stages(fit.centroids)
        stores = {"pixel_mse": experiment.train, "heldout_pixel_mse": experiment.test}
        there = {name: store for name, store in stores.items() if store is not None}
        rows = sum(store.n_rows for store in there.values())
        self.progress.start(f"K={k} in pixels", rows, "rows")
        for name, store in there.items():
            source = self.fitter.spread(StoreSource(store))
            found[name] = _mse_of_pixels(self.preprocessing, source, stages, self.progress)
        self.progress.finish()
        return found

    def _circumstances(self) -> dict[str, Any]:
        """What it was learned for and on."""
        options = self.experiment.options
        return {
            "digest": self.experiment.digest,
            "engine": self.engine.name,
            "device": device_name(self.engine.device),
            "peak_memory": peak_resident(),
            "memory": int(options.memory),
            "scheduler": options.scheduler if self.fitter.remote else "",
            "machine": machine(),
            "versions": versions(),
        }


def _mse_of_pixels(
    preprocessing: Preprocessing, source: RowSource, stages: list[np.ndarray], progress: Progress
) -> float:
    """Mean squared error per pixel of patches that are restored, squared levels.

    stages: centroids, (k, d), and those of what they leave; of one alone by cosine.
    """
    sums = map_blocks(source, partial(_errors_of_blocks, preprocessing, stages), progress)
    return sum(sums, 0.0) / (source.n_rows * source.dim)


def _errors_of_blocks(
    preprocessing: Preprocessing,
    stages: list[np.ndarray],
    source: RowSource,
    blocks: range,
    progress: Progress,
) -> list[float]:
    """Of each of some blocks the sum of its patches' squared errors; may run on a worker."""
    nearest = [NearestCentroids(one, preprocessing.dtype, device="cpu") for one in stages]
    directions, found = [preprocessing.directions(one) for one in stages], []
    with closing(read_ahead(source, blocks)) as stream:
        for block in stream:
            left = preprocessing.rows(block)
            labels = [nearest[0].label(left)]
            for before, one in zip(stages, nearest[1:], strict=False):
                left = residuals(left, before, labels[-1])
                labels.append(one.label(left))
            light = preprocessing.amplitudes(block, stages[0], labels[0])
            errors = preprocessing.errors_of_sums(block, light, directions, labels)
            found.append(float(errors.sum()))
            progress.advance(len(block))
    return found


def _scores(fit: Fit, heldout_mse: float | None, seconds: float) -> dict[str, Any]:
    return {
        "k": len(fit.centroids),
        "mse": fit.mse,
        "sse": fit.inertia,
        "heldout_mse": heldout_mse,
        "passes": len(fit.history.rows),
        "rows_seen": sum(fit.history.rows),
        "seconds": seconds,
        "live": fit.sums.live,
        "converged": fit.converged,
        "stopped": fit.stopped,
        "variance": fit.sums.mean_variance(),
    }
