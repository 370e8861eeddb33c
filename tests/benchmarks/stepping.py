"""Full-batch passes of each engine against faiss's flat search and scikit-learn's Lloyd step."""

import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

import faiss
import numpy as np
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from pipeline.engines import EngineSpec
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.engines.cpu.labeller import Effort
from pipeline.execution.executor import LocalExecutor
from pipeline.kmeans.seeding import kmeans_plus_plus
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import ArraySource, LargerBlocks, RowSource
from pipeline.runtime.devices import CPU, thread_count
from pipeline.runtime.progress import SilentProgress
from tests.benchmarks.peers import flat_superkmeans, mlpack_steps, optional

MAX_PRODUCTS = 1 << 31  # rows · K · d / 25 of one measurement of an engine that meets them all
MLPACK_ROWS = 1 << 14  # its step costs each row about the same, and takes 100 times ours
EXTRA_STEPS = 4
EARLY = 4  # the pass that is compared: guesses from the pass before, centroids still moving
LATE = 150  # a pass in which they barely move


@dataclass
class Passes:
    """Lloyd from k-means++ on a sample.

    seconds, effort: of each pass. centroids: of the early one.
    """

    seconds: list[float]
    effort: list[Effort]
    centroids: np.ndarray

    def early(self) -> float:
        """Seconds: median of the early pass and its neighbours."""
        return float(np.median(self.seconds[EARLY - 1 : EARLY + 2]))

    def late(self) -> float:
        return float(np.median(self.seconds[-3:]))


def lloyd(source: RowSource, k: int, passes: int) -> Passes:
    """Passes of the pruned engine, each with what the one before left."""
    sample = source.read_block(0)[: max(1 << 16, 16 * k)]
    centroids = kmeans_plus_plus(sample, k, np.random.default_rng(0)).astype(np.float32)
    blocks = EngineSpec.for_samples(source.dim, source.dtype).blocks_at_once(k, source)
    source = LargerBlocks(source, blocks) if blocks > 1 else source
    engine = PrunedEngine(source.dim, source.dtype)
    run = Passes([], [], centroids)
    # Kernels are loaded, on rows of their own: what is known of others is no guess.
    warm, few = PrunedEngine(source.dim, source.dtype), ArraySource(sample)
    with closing(LocalExecutor(few, warm, warm.cache_for(few))) as executor:
        executor.run_pass(centroids, SilentProgress())
    with closing(LocalExecutor(source, engine, engine.cache_for(source))) as executor:
        for number in range(passes):
            if number == EARLY:
                run.centroids = centroids
            started = time.perf_counter()
            sums, _ = executor.run_pass(centroids, SilentProgress())
            run.seconds.append(time.perf_counter() - started)
            run.effort.append(engine.effort)
            centroids = sums.means(centroids).astype(np.float32)
    return run


def measure(
    rows: np.ndarray,
    sizes: list[int],
    repeats: int,
    middle: Callable[[list[float]], float],
    passes: int = LATE,
) -> list[dict[str, str]]:
    """A row for each K: nanoseconds per row, and ratios to the peers (above 1: we are faster).

    rows: (n, d) uint8; engines that meet all centroids take a part of them, as every row costs
    them the same.
    """
    table = []
    n, dim = rows.shape
    for k in sizes:
        run = lloyd(ArraySource(rows), k, passes)
        part = rows[: max(1 << 14, min(n, MAX_PRODUCTS * 25 // (k * dim)))]
        wide = part.astype(np.float32)
        # Interleaved, so that a noisy spell of the machine meets all of them.
        runs = [
            (
                _torch(part, run.centroids),
                *(peer(wide, run.centroids) for peer in (_faiss, _scikit_learn)),
                *(_superkmeans(wide, k, quantizer) for quantizer in ("f32", "sq8")),
            )
            for _ in range(repeats)
        ]
        dense, flat, scikit, superkmeans, sq8 = (
            middle(list(times)) / len(part) * 1e9 for times in zip(*runs, strict=True)
        )
        first, early, late = (
            seconds / n * 1e9 for seconds in (run.seconds[0], run.early(), run.late())
        )
        mlpack = _mlpack(part[:MLPACK_ROWS].astype(np.float64), run.centroids)
        effort, last = run.effort[EARLY], run.effort[-1]
        table.append(
            {
                "K": str(k),
                "first pass": f"{first:.0f}",
                "early pass": f"{early:.0f}",
                "late pass": f"{late:.1f}",
                "torch engine": f"{dense:.0f}",
                "superkmeans step": f"{superkmeans:.0f}",
                "superkmeans sq8 step": f"{sq8:.0f}",
                "faiss flat search (no sums)": f"{flat:.0f}",
                "scikit-learn Lloyd step": f"{scikit:.0f}",
                "mlpack step (Elkan)": "not installed" if mlpack is None else f"{mlpack:.0f}",
                "early: times faiss": f"{flat / early:.1f}",
                "times scikit-learn": f"{scikit / early:.1f}",
                "times superkmeans": f"{superkmeans / early:.1f}",
                "times sq8": f"{sq8 / early:.1f}",
                "first: times faiss": f"{flat / first:.1f}",
                "times torch": f"{dense / early:.1f}",
                "candidates per row, early": f"{effort.products / n:.1f}",
                "rows skipped, early / late": (
                    f"{1 - effort.scanned / n:.0%} / {1 - last.scanned / n:.0%}"
                ),
            }
        )
    return table


def _torch(rows: np.ndarray, centroids: np.ndarray) -> float:
    engine = EngineSpec.resolve("torch", CPU, rows.shape[1], rows.dtype).make()
    started = time.perf_counter()
    engine.load(centroids)
    engine.step(rows, ClusterSums.zeros(centroids, rows.dtype))
    return time.perf_counter() - started


def _faiss(rows: np.ndarray, centroids: np.ndarray) -> float:
    faiss.omp_set_num_threads(thread_count())
    index = faiss.IndexFlatL2(rows.shape[1])
    started = time.perf_counter()
    index.add(centroids)
    index.search(rows, 1)
    return time.perf_counter() - started


def _scikit_learn(rows: np.ndarray, centroids: np.ndarray) -> float:
    """One step: what EXTRA_STEPS more of them add, so that setting up does not count."""

    def seconds(steps: int) -> float:
        model = KMeans(len(centroids), init=centroids, n_init=1, max_iter=steps, tol=0)
        started = time.perf_counter()
        with threadpool_limits(thread_count()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one step is meant
            model.fit(rows)
        return time.perf_counter() - started

    return max(seconds(1 + EXTRA_STEPS) - seconds(1), 0.0) / EXTRA_STEPS


def _superkmeans(rows: np.ndarray, k: int, quantizer: str = "f32") -> float:
    """The same of its flat mode on all rows, from centroids of its own."""

    def seconds(steps: int) -> float:
        model = flat_superkmeans(k, rows.shape[1], steps, quantizer)
        started = time.perf_counter()
        model.train(rows)
        return time.perf_counter() - started

    return max(seconds(1 + EXTRA_STEPS) - seconds(1), 0.0) / EXTRA_STEPS


def _mlpack(rows: np.ndarray, centroids: np.ndarray) -> float | None:
    """The same of mlpack's, nanoseconds per row; None where it is not installed."""
    mlpack = optional("mlpack")
    if mlpack is None:
        return None
    start = centroids.astype(np.float64)
    few, many = (
        min(mlpack_steps(mlpack, rows, start.copy(), steps) for _ in range(2))
        for steps in (1, 1 + EXTRA_STEPS)
    )
    return max(many - few, 0.0) / EXTRA_STEPS / len(rows) * 1e9
