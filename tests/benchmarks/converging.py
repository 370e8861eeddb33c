"""How soon each way is how good: MSE against seconds, for us and the peers, on the same rows.

All scores are taken the same way, in float64 on the same rows, while the clocks stand still.
"""

import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

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
from pipeline.rows.source import ArraySource
from pipeline.runtime.devices import thread_count
from pipeline.runtime.progress import SilentProgress

ITERATIONS = 100
FAISS_AT_ONCE = 10  # iterations between two looks at the score
BLOCK, PASSES, BLOCKS_AT_ONCE = 1 << 16, 5, 8  # of MiniBatchKMeans; blocks between two looks
EVERYTHING = 1 << 30  # points per centroid: faiss would take a sample otherwise


@dataclass
class Curve:
    """seconds: from the start. mse: on all rows. centroids: (k, d), the last ones."""

    name: str
    seconds: list[float] = field(default_factory=list)
    mse: list[float] = field(default_factory=list)
    centroids: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    def until(self, mse: float) -> float:
        """Seconds until the score is as low; inf for never."""
        reached = [s for s, m in zip(self.seconds, self.mse, strict=True) if m <= mse]
        return min(reached, default=np.inf)


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


def score(rows: np.ndarray, centroids: np.ndarray) -> float:
    """MSE on these rows, in squared pixel levels."""
    centroids = np.ascontiguousarray(centroids, np.float32)
    executor = LocalExecutor(ArraySource(rows), PrunedEngine(rows.shape[1], rows.dtype))
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


def flat_faiss(rows: np.ndarray, k: int) -> Curve:
    """faiss.Kmeans on all rows, from its random rows."""
    faiss.omp_set_num_threads(thread_count())
    wide, centroids = rows.astype(np.float32), None
    curve, clock = Curve("faiss Kmeans"), Clock()
    for _ in range(0, ITERATIONS, FAISS_AT_ONCE):
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
        for number, start in enumerate(list(range(0, len(wide), BLOCK)) * PASSES, 1):
            model.partial_fit(wide[start : start + BLOCK])
            if number % BLOCKS_AT_ONCE == 0:
                at, mse = clock.while_stopped(lambda: score(rows, model.cluster_centers_))
                curve.seconds.append(at)
                curve.mse.append(mse)
    curve.centroids = model.cluster_centers_
    return curve


def measure(
    rows: np.ndarray, heldout: np.ndarray, k: int, figure: Path | None
) -> list[dict[str, str]]:
    """A row for each way. rows, heldout: (n, d) uint8. figure: where the curves are drawn."""
    ours(rows[: 1 << 17], 50)  # kernels are loaded
    curves = []
    for way in (ours, scikit_learn, flat_faiss, minibatch):
        curves.append(way(rows, k))
        print(f"{curves[-1].name}: {curves[-1].seconds[-1]:.0f} s", file=sys.stderr, flush=True)
    if figure is not None:
        draw(curves, len(rows), k).savefig(figure, dpi=200)
    table = []
    for curve in curves:
        until = curves[0].until(curve.mse[-1])
        table.append(
            {
                f"K = {k}, {len(rows):,} rows": curve.name,
                "seconds": f"{curve.seconds[-1]:.1f}",
                "MSE": f"{curve.mse[-1]:.2f}",
                "held-out MSE": f"{score(heldout, curve.centroids):.2f}",
                "patchdict as low after": f"{until:.1f} s",
                "sooner by": f"{curve.seconds[-1] / until:.1f} ×",
            }
        )
    return table


def draw(curves: list[Curve], n: int, k: int) -> Figure:
    """MSE against seconds, both from where it matters."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    best = min(min(curve.mse) for curve in curves)
    for curve, colour in zip(curves, ("#b2182b", "#2166ac", "#4d4d4d", "#e08214"), strict=True):
        axes.plot(curve.seconds, curve.mse, color=colour, linewidth=1.8)
        axes.plot(curve.seconds[-1], curve.mse[-1], "o", color=colour, label=curve.name)
    axes.set_xscale("log")
    axes.set_ylim(best * 0.995, best * 1.12)
    axes.set_xlabel("seconds, seeding included")
    axes.set_ylabel("MSE on all rows (squared pixel levels)")
    axes.set_title(f"K = {k:,} on {n:,} patches of MNIST, two threads", loc="left", fontsize=10)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return figure
