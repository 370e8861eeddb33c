"""How soon each way is how good: MSE against seconds, for us and the peers, on the same rows.

All scores are taken the same way, in float64 on the same rows, while the clocks stand still.
"""

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, field
from functools import partial

import faiss
import numpy as np
from matplotlib.figure import Figure
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.execution.executor import LocalExecutor
from pipeline.execution.scheduler import Scheduler
from pipeline.kmeans.fitter import Fitter
from pipeline.kmeans.history import mean_squared_error
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.source import ArraySource, RowSource
from pipeline.runtime.devices import thread_count
from pipeline.runtime.progress import SilentProgress
from tests.benchmarks.peers import flat_superkmeans

ITERATIONS = 100
FAISS_AT_ONCE = 10  # iterations between two looks at the score
LARGE_FAISS = 30  # iterations on large patches, where each takes seconds; its default is 25
SUPERKMEANS = 10, 25, 50, 100  # iterations of its runs
SQ8 = 10, 25  # of those with its quantizer, which take twenty times as long
BLOCK, PASSES, BLOCKS_AT_ONCE = 1 << 16, 5, 8  # of MiniBatchKMeans; blocks between two looks
EVERYTHING = 1 << 30  # points per centroid: faiss would take a sample otherwise
COLOURS = "#b2182b", "#2166ac", "#4d4d4d", "#e08214", "#1b7837"


@dataclass
class Curve:
    """seconds: from the start. mse: on all rows. centroids: (k, d), the last ones.

    runs: names of the points, where they are ends of runs of their own, not looks at one run.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    mse: list[float] = field(default_factory=list)
    centroids: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    runs: list[str] = field(default_factory=list)

    def until(self, mse: float) -> float:
        """Seconds until the score is as low; inf for never."""
        reached = [s for s, m in zip(self.seconds, self.mse, strict=True) if m <= mse]
        return min(reached, default=np.inf)

    def ends(self) -> list[tuple[str, float, float]]:
        """Name, seconds and score of each run when it was over."""
        names = self.runs or [self.name]
        seconds, mse = self.seconds[-len(names) :], self.mse[-len(names) :]
        return list(zip(names, seconds, mse, strict=True))


class Clock:
    """Runs but while it is stopped."""

    def __init__(self) -> None:
        self._before, self._started = 0.0, time.perf_counter()

    def read(self) -> float:
        return self._before + time.perf_counter() - self._started

    def while_stopped(self, work: Callable[[], float]) -> tuple[float, float]:
        """Returns: the time, and what came of the work."""
        self._before = self.read()
        result = work()
        self._started = time.perf_counter()
        return self._before, result


def score(rows: np.ndarray | RowSource, centroids: np.ndarray) -> float:
    """MSE on these rows, in squared pixel levels."""
    source = ArraySource(rows) if isinstance(rows, np.ndarray) else rows
    centroids = np.ascontiguousarray(centroids, np.float32)
    executor = LocalExecutor(source, PrunedEngine(source.dim, source.dtype))
    sums, _ = executor.run_pass(centroids, SilentProgress())
    return mean_squared_error(sums.sse(centroids), sums)


class _Watch(SilentProgress):
    """Notes when each pass was over."""

    def __init__(self) -> None:
        self.clock, self.at = Clock(), list[float]()

    def advance(self, units: int, **facts: object) -> None:
        if "pass" in facts:
            self.at.append(self.clock.read())


def ours(rows: np.ndarray, k: int) -> Curve:
    """Our defaults. A pass over all rows scores its centroids; not so one with some on trial."""
    watch = _Watch()
    with Scheduler("", 8 << 30) as scheduler:
        engine = EngineSpec.for_samples(rows.shape[1], rows.dtype)
        plan = FitPlan.make(ArraySource(rows), [k], FitOptions(), engine, scheduler)
        with closing(Fitter(plan, watch)) as fitter:
            fit = fitter.fit(k)
    watch.at += [watch.clock.read()] * (len(fit.history.rows) - len(watch.at))
    curve = Curve("patchdict", centroids=fit.centroids)
    history = fit.history
    for at, seen, mse, live in zip(watch.at, history.rows, history.mse, history.live, strict=True):
        if seen == len(rows) and live <= k:
            curve.seconds.append(at)
            curve.mse.append(mse)
    return curve


class _Iterations:
    """A stream that notes when scikit-learn tells the inertia of an iteration."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.inertia = clock, list[float](), list[float]()

    def write(self, text: str) -> None:
        if "inertia" in text and "Iteration" in text:
            self.seconds.append(self.clock.read())
            self.inertia.append(float(text.split("inertia")[1].strip(" .\n")))

    def flush(self) -> None: ...


def scikit_learn(rows: np.ndarray, k: int) -> Curve:
    """KMeans with its defaults, up to so many iterations; its own inertia on the way."""
    wide = rows.astype(np.float32)
    clock = Clock()
    seen = _Iterations(clock)
    model = KMeans(k, max_iter=ITERATIONS, random_state=0, verbose=1)
    with threadpool_limits(thread_count()), warnings.catch_warnings(), redirect_stdout(seen):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the iterations are limited
        model.fit(wide)
    curve = Curve("scikit-learn KMeans", seen.seconds, [i / wide.size for i in seen.inertia])
    curve.centroids = model.cluster_centers_
    curve.seconds.append(clock.read())
    curve.mse.append(score(rows, curve.centroids))
    return curve


def flat_faiss(rows: np.ndarray, k: int, iterations: int = ITERATIONS) -> Curve:
    """faiss.Kmeans on all rows, from its random rows."""
    faiss.omp_set_num_threads(thread_count())
    wide, centroids = rows.astype(np.float32), None
    curve, clock = Curve("faiss Kmeans"), Clock()
    for _ in range(0, iterations, FAISS_AT_ONCE):
        model = faiss.Kmeans(
            wide.shape[1], k, niter=FAISS_AT_ONCE, seed=0, max_points_per_centroid=EVERYTHING
        )
        model.train(wide, init_centroids=centroids)
        centroids = model.centroids
        at, mse = clock.while_stopped(lambda found=centroids: score(rows, found))
        curve.seconds.append(at)
        curve.mse.append(mse)
    curve.centroids = centroids
    return curve


def minibatch(rows: np.ndarray, k: int) -> Curve:
    """scikit-learn's MiniBatchKMeans, fed block by block."""
    wide = rows.astype(np.float32)
    curve, clock = Curve("scikit-learn MiniBatchKMeans"), Clock()
    model = MiniBatchKMeans(k, random_state=0, n_init=1)
    with threadpool_limits(thread_count()):
        starts = list(range(0, len(wide), BLOCK)) * PASSES
        for number, start in enumerate(starts, 1):
            model.partial_fit(wide[start : start + BLOCK])
            if number % BLOCKS_AT_ONCE == 0 or number == len(starts):
                at, mse = clock.while_stopped(lambda: score(rows, model.cluster_centers_))
                curve.seconds.append(at)
                curve.mse.append(mse)
    curve.centroids = model.cluster_centers_
    return curve


def superkmeans(
    rows: np.ndarray, k: int, quantizer: str = "f32", runs: Sequence[int] = SUPERKMEANS
) -> Curve:
    """Its flat mode on all rows: no looks at a run, so runs of more and more steps."""
    wide, told = rows.astype(np.float32), "" if quantizer == "f32" else f" {quantizer}"
    curve = Curve(f"superkmeans{told}, separate runs")
    for steps in runs:
        clock = Clock()
        curve.centroids = flat_superkmeans(k, wide.shape[1], steps, quantizer).train(wide)
        curve.seconds.append(clock.read())
        curve.mse.append(score(rows, curve.centroids))
        curve.runs.append(f"superkmeans{told}, flat, {steps} iterations")
    return curve


Way = Callable[[np.ndarray, int], Curve]
WAYS: tuple[Way, ...] = (ours, scikit_learn, flat_faiss, minibatch)
LARGE_WAYS = (
    ours,
    scikit_learn,
    partial(flat_faiss, iterations=LARGE_FAISS),
    superkmeans,
    partial(superkmeans, quantizer="sq8", runs=SQ8),
)


def measure(rows: np.ndarray, k: int, ways: Sequence[Way] = WAYS) -> list[Curve]:
    """A curve for each way, ours first. rows: (n, d) uint8."""
    ours(rows[: 1 << 17], min(k, 50))  # kernels are loaded
    curves = []
    for way in ways:
        curves.append(way(rows, k))
        print(f"{curves[-1].name}: {curves[-1].seconds[-1]:.0f} s", file=sys.stderr, flush=True)
    return curves


def compared(
    title: str, curves: list[Curve], heldout: np.ndarray | None = None
) -> list[dict[str, str]]:
    """A row of a table for the end of each run; the first curve is ours.

    heldout: (m, d) uint8, scored if given; of curves of one run each.
    """
    table = []
    for curve in curves:
        for name, seconds, mse in curve.ends():
            until = curves[0].until(mse)
            row = {title: name, "seconds": f"{seconds:.1f}", "MSE": f"{mse:.2f}"}
            if heldout is not None:
                row["held-out MSE"] = f"{score(heldout, curve.centroids):.2f}"
            row["patchdict as low after"] = f"{until:.1f} s"
            row["sooner by"] = f"{seconds / until:.1f} ×"
            if curve is curves[0] or until == np.inf:
                nothing = "" if curve is curves[0] else "never"
                row |= {"patchdict as low after": nothing, "sooner by": nothing}
            table.append(row)
    return table


def draw(panels: dict[str, list[Curve]]) -> Figure:
    """MSE against seconds, both from where it matters: a panel for each title."""
    figure = Figure(figsize=(7 if len(panels) == 1 else 10, 4), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, curves) in zip(all_axes, panels.items(), strict=True):
        best = min(min(curve.mse) for curve in curves)
        for curve, colour in zip(curves, COLOURS[: len(curves)], strict=True):
            dashes, width = (":", 0.9) if curve.runs else ("-", 1.8)
            axes.plot(curve.seconds, curve.mse, dashes, color=colour, linewidth=width)
            _, seconds, mse = zip(*curve.ends(), strict=True)
            axes.plot(seconds, mse, "o", color=colour, label=curve.name)
        axes.set_xscale("log")
        axes.set_ylim(best * 0.995, max(best * 1.12, 1.01 * max(c.mse[-1] for c in curves)))
        axes.set_xlabel("seconds, seeding included")
        axes.set_title(title, loc="left", fontsize=10)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    all_axes[0].set_ylabel("MSE on all rows (squared pixel levels)")
    named = all_axes[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure
