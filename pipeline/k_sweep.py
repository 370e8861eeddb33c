"""The sweep: patches once, then a dictionary for every K, each written as soon as it is learned."""

import hashlib
import time
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config import SweepOptions
from pipeline.engines import EngineSpec
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.extract import Extraction, extract
from pipeline.kmeans.checkpoint import FitCheckpoint
from pipeline.kmeans.fitter import Fitter
from pipeline.kmeans.history import Fit, mean_squared_error
from pipeline.kmeans.plan import FitPlan
from pipeline.kmeans.seeding import require_distinct
from pipeline.rows.source import StoreSource
from pipeline.runtime.devices import resolve_device
from pipeline.runtime.machine import device_name, machine, place, versions
from pipeline.runtime.memory import peak_resident
from pipeline.runtime.progress import Progress, SilentProgress, rounded
from storage.atomic import exclusive, remove
from storage.dictionary_store import (
    Dictionary,
    check_dictionaries,
    create_dictionaries,
    finished_dictionaries,
    read_centroids,
    write_dictionary,
)
from storage.errors import BusyError
from storage.images.source import splits_of
from storage.layout import ExperimentLayout, group_name, state_size
from storage.patch_store import PatchStore

SCORES = ("k", "mse", "sse", "heldout_mse", "passes", "rows_seen", "seconds", "live")


@dataclass(frozen=True)
class Experiment:
    """The stores a sweep works on: its patches, held-out patches if any, and its dictionaries."""

    options: SweepOptions
    train: PatchStore
    test: PatchStore | None
    reused: bool
    repaired: int

    @property
    def digest(self) -> str:
        """Hash of all that the dictionaries' numbers depend on, beside K."""
        return self.options.digest(self.train.name, self.test.name if self.test else "")

    @property
    def folder(self) -> Path:
        """`OUT`/NAME, as in runs/mnist-5x5-s1-t0-full-1a2b3c4d."""
        name = f"{self.train.source['name']}-{self.train.spec.label}-{self.options.mode}"
        return self.options.out / f"{name}-{self.digest}"

    @property
    def layout(self) -> ExperimentLayout:
        return ExperimentLayout(self.folder)

    @property
    def dictionaries(self) -> Path:
        return self.layout.dictionaries

    def describe(self) -> dict[str, Any]:
        """What the dictionary store records of its experiment: plain JSON."""
        options = self.options
        return {
            "dataset": options.dataset,
            "data": str(options.data),
            "spec": self.train.spec.to_dict(),
            "source": self.train.source,
            "train_store": self.train.name,
            "test_store": self.test.name if self.test else None,
            "n_rows": self.train.n_rows,
            "dim": self.train.dim,
            "heldout_rows": self.test.n_rows if self.test else 0,
            "fit": options.in_use(),
            "digest": self.digest,
        }


def sweep(options: SweepOptions, progress: Progress | None = None) -> dict[str, Any]:
    """Extract the patches and learn a dictionary for every K, ascending.

    What is there already is used: patch stores of the same images and spec, dictionaries of the
    same configuration. Each new dictionary is written at once, whole.
    Returns: plain JSON: experiment, store, rows, dim, reused, repaired (damaged chunks of patches
        that were written again), and `dictionaries`, one entry per K with k, mse, sse,
        heldout_mse, passes, rows_seen, seconds, live, path, reused.
    Raises: InputError, IntegrityError, MemoryBudgetError; BusyError where another sweep holds the
        experiment.
    """
    options = options.on(resolve_device(options.device).type)  # refused before any work is done
    with Scheduler(options.scheduler, options.memory) as scheduler:
        return _sweep(options, scheduler, progress or SilentProgress())


def _sweep(options: SweepOptions, scheduler: Scheduler, progress: Progress) -> dict[str, Any]:
    experiment = prepare(options, scheduler, progress)
    device = resolve_device(options.device, experiment.train.dtype)
    train = experiment.train
    engine = EngineSpec.resolve(options.engine, device, train.dim, train.dtype)
    where = place(options.device, engine)
    progress.note(f"{train.n_rows:,} rows of {train.dim}, {where}")
    path = experiment.dictionaries
    check_dictionaries(path, experiment.describe())
    missing = _missing(experiment)
    if missing:
        # What cannot be learned is refused before anything is written.
        plan = FitPlan.make(
            StoreSource(train),
            missing,
            options,
            engine,
            scheduler,
            memory=options.memory,
            device_memory=options.device_memory,
            scratch=experiment.folder,
            heldout_rows=experiment.test.n_rows if experiment.test else 0,
        )
        for note in plan.notes:
            progress.note(note)
        require_distinct(plan.source, plan.largest)
        fitter = Fitter(plan, progress)
        with _sole_owner(experiment), closing(fitter):
            _remove(_leftovers(experiment))
            create_dictionaries(path, experiment.describe())
            heldout = StoreSource(experiment.test) if experiment.test else None
            for k in _missing(experiment):
                found = _learn(experiment, k, fitter, heldout, progress)
                found.attributes.update(engine=engine.name, device=device_name(device))
                write_dictionary(path, found)
                _remove(experiment.layout.fit_states(k))
    elif _leftovers(experiment):
        with suppress(BusyError, OSError), _sole_owner(experiment):
            _remove(_leftovers(experiment))
    scores = finished_dictionaries(path)
    entries = [
        {name: scores[k][name] for name in SCORES}
        | {"path": str(path / group_name(k)), "reused": k not in missing}
        for k in options.sizes
    ]
    return {
        "experiment": str(experiment.folder),
        "store": str(experiment.train.path),
        "rows": experiment.train.n_rows,
        "dim": experiment.train.dim,
        "reused": experiment.reused,
        "repaired": experiment.repaired,
        "dictionaries": entries,
    }


def prepare(options: SweepOptions, scheduler: Scheduler, progress: Progress) -> Experiment:
    """Extract what is not extracted yet, and name the experiment."""
    found = {
        split: extract(
            Extraction(options.dataset, split, options.data, options.spec),
            options.out,
            scheduler=scheduler,
            memory=options.memory,
            progress=progress,
        )
        for split in splits_of(options.dataset)
    }
    return Experiment(
        options,
        found["train"].store,
        found["test"].store if "test" in found else None,
        reused=all(extracted.reused for extracted in found.values()),
        repaired=sum(extracted.repaired for extracted in found.values()),
    )


def _missing(experiment: Experiment) -> list[int]:
    finished = finished_dictionaries(experiment.dictionaries)
    return [k for k in experiment.options.sizes if k not in finished]


def _smaller(experiment: Experiment, k: int) -> int | None:
    """The next smaller K that is stored."""
    return max((m for m in finished_dictionaries(experiment.dictionaries) if m < k), default=None)


def _learn(
    experiment: Experiment,
    k: int,
    fitter: Fitter,
    heldout: StoreSource | None,
    progress: Progress,
) -> Dictionary:
    """Fit one dictionary and score it on the held-out patches."""
    started = time.perf_counter()
    smaller = _smaller(experiment, k) if experiment.options.init == "warm" else None
    fit_identity = {"digest": experiment.digest, "started_from": smaller, "start": None}
    if experiment.train.dtype.kind == "f":  # their sums are those of the way they were added
        fit_identity["remote"] = fitter.remote
    if smaller is None:
        checkpoint = FitCheckpoint(experiment.folder, k, fit_identity, progress)
        fit = fitter.fit(k, checkpoint=checkpoint)
    else:
        centroids, mse = read_centroids(experiment.dictionaries, smaller)
        fit_identity["start"] = hashlib.sha256(centroids.tobytes()).hexdigest()
        checkpoint = FitCheckpoint(experiment.folder, k, fit_identity, progress)
        start = centroids.reshape(smaller, -1)
        fit = fitter.fit(k, start, mse_limit=mse, warm=True, checkpoint=checkpoint)
    seconds = checkpoint.spent + time.perf_counter() - started
    heldout_mse = None
    if heldout is not None:
        progress.start(f"K={k} held-out", heldout.n_rows, "rows")
        sums = fitter.score(heldout, fit.centroids)
        progress.finish()
        heldout_mse = mean_squared_error(sums.sse(fit.centroids), sums)
    progress.note(
        f"K={k}: MSE {rounded(fit.mse)}"
        + ("" if heldout_mse is None else f", held-out {rounded(heldout_mse)}")
        + f", {len(fit.history.rows)} passes, {seconds:.1f} s"
        + ("" if fit.converged else " (stopped at max-iter)")
    )
    return Dictionary(
        centroids=fit.centroids.reshape(k, *experiment.train.patch_shape),
        count=fit.sums.counts,
        sse=fit.sse,
        history=vars(fit.history),
        attributes={
            **_scores(fit, heldout_mse, seconds),
            "digest": experiment.digest,
            "started_from": smaller,
            "variance": fit.sums.mean_variance(),
            "peak_memory": peak_resident(),
            "memory": int(experiment.options.memory),
            "scheduler": experiment.options.scheduler,
            "machine": machine(),
            "versions": versions(),
        },
    )


def _scores(fit: Fit, heldout_mse: float | None, seconds: float) -> dict[str, Any]:
    return {
        "k": len(fit.centroids),
        "mse": fit.mse,
        "sse": float(fit.sse.sum()),
        "heldout_mse": heldout_mse,
        "passes": len(fit.history.rows),
        "rows_seen": sum(fit.history.rows),
        "seconds": seconds,
        "live": fit.sums.live,
        "converged": fit.converged,
        "stopped": fit.stopped,
    }


def _sole_owner(experiment: Experiment) -> AbstractContextManager[None]:
    return exclusive(experiment.layout.lock, f"sweeping into {experiment.folder}")


def _leftovers(experiment: Experiment) -> list[Path]:
    """What killed sweeps left: half-written files, states of fits that are stored since."""
    layout = experiment.layout
    finished = finished_dictionaries(layout.dictionaries)
    return [s for s in layout.fit_states() if state_size(s) in finished] + layout.half_written()


def _remove(paths: list[Path]) -> None:
    for path in paths:
        remove(path)
