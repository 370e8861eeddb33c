"""A fit as a chain of passes: after each of them it stands in a state from which it can go on.

The loops are written as stages. A stage makes one pass at most, and names the stage that follows;
so what is known between two passes lies in the state alone, and a fit that resumes from a stored
state produces bit-identical results to an uninterrupted one by engines that are equally exact; a
state of another exactness is not taken up.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Generic, Self, TypeVar

import numpy as np

from pipeline.config import FitOptions
from pipeline.execution.executor import Executor
from pipeline.kmeans.checkpoint import FitCheckpoint
from pipeline.kmeans.empty_clusters import fill_empty
from pipeline.kmeans.history import Fit, History, Stopped, mean_squared_error, stopped_by
from pipeline.kmeans.seeding import distinct_rows
from pipeline.rows.cluster_sums import ClusterSums
from pipeline.rows.source import centroid_type
from pipeline.runtime.progress import Progress, SilentProgress

MAX_REDRAWS = 6  # how often centroids without rows get a new place at the end
END = "end"


@dataclass(frozen=True)
class StoppingRules:
    """When a run ends, and what becomes of empty centroids.

    max_iter: most steps; see each loop. tol: as in scikit-learn, the run ends when the squared
    shift of all centroids is at most tol times the mean variance of the columns. min_gain: it also
    ends when a pass gains less than this share of the MSE. empty: see `fill_empty`. spherical:
    whether centroids are of length 1, as rows are (Dhillon & Modha 2001, Concept decompositions for
    large sparse text data using clustering).
    """

    max_iter: int
    tol: float
    min_gain: float
    empty: str
    spherical: bool = False

    @classmethod
    def of(cls, options: FitOptions) -> "StoppingRules":
        """Those that options ask for."""
        gains, spherical = (options.tol, options.least_gain), options.distance == "cosine"
        return cls(options.passes, *gains, options.empty, spherical)

    def allowed(self, centroids: np.ndarray) -> np.ndarray:
        """Centroids, (k, d), or the nearest that are allowed; those that are 0 stay."""
        if not self.spherical:
            return centroids
        lengths = np.linalg.norm(centroids.astype(np.float64), axis=1, keepdims=True)
        return (centroids / np.where(lengths == 0, 1, lengths)).astype(centroids.dtype)


@dataclass
class LoopState:
    """Where a run stands between two passes.

    stage: the next one. centroids: of the next pass, (k, d). updates: how often they were moved.
    before: MSE of the pass before, on the same rows; inf for the first. revived: how often empty
    ones got a new place at the end. sums: of the final centroids over all rows, at the end.
    """

    stage: str
    centroids: np.ndarray
    history: History = field(default_factory=History)
    updates: int = 0
    before: float = np.inf
    stopped: Stopped = "max_iter"
    revived: int = 0
    sums: ClusterSums | None = None

    def pack(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """As arrays and plain JSON; `unpack` is the inverse, to the last bit."""
        arrays: dict[str, np.ndarray] = {}
        facts: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                arrays[name] = value
            elif isinstance(value, ClusterSums):
                arrays |= {f"{name}.{part}": array for part, array in vars(value).items()}
            else:
                facts[name] = vars(value) if isinstance(value, History) else value
        return arrays, facts

    @classmethod
    def unpack(cls, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> Self:
        """Of what `pack` gave."""
        found: dict[str, Any] = {name: a for name, a in arrays.items() if "." not in name}
        for name in {name.partition(".")[0] for name in arrays if "." in name}:
            parts = {part.name: arrays[f"{name}.{part.name}"] for part in fields(ClusterSums)}
            found[name] = ClusterSums(**parts)
        return cls(**found, **facts | {"history": History(**facts["history"])})


S = TypeVar("S", bound=LoopState)


class KMeansLoop(Generic[S]):
    """What all loops have in common: the way from stage to stage, and the end.

    executor: makes the passes. rng: the one generator of the run. checkpoint: where its state is
    kept; None: nowhere.
    """

    name: str  # of its state in the checkpoint
    kind: type[S]  # of its state

    def __init__(
        self,
        executor: Executor,
        rules: StoppingRules,
        rng: np.random.Generator,
        progress: Progress | None = None,
        checkpoint: FitCheckpoint | None = None,
    ) -> None:
        self.executor, self.rules, self.rng = executor, rules, rng
        self.progress, self.checkpoint = progress or SilentProgress(), checkpoint
        self.state: S

    def begin(self, centroids: np.ndarray) -> S:
        """The state before the first pass; centroids: (k, d), of the type of the passes."""
        raise NotImplementedError

    def stages(self) -> dict[str, Callable[[], None]]:
        """The loop's own stages by name."""
        raise NotImplementedError

    def resume(self) -> bool:
        """Stand where the run of this name was left; whether there was one."""
        if self.checkpoint is None or (kept := self.checkpoint.load(self.name)) is None:
            return False
        arrays, facts = kept
        generator = facts.pop("generator")
        try:
            self.state = self.kind.unpack(arrays, facts)
        except (TypeError, KeyError):  # of a version with other fields
            self.progress.note(
                f"K={self.checkpoint.k} starts anew: its state is of another version"
            )
            return False
        self.rng.bit_generator.state = generator
        passes = len(self.state.history.rows)
        self.progress.note(f"K={self.checkpoint.k} goes on after pass {passes}")
        return True

    def start(self, centroids: np.ndarray) -> None:
        """Stand before the first pass; centroids: (k, d)."""
        self.state = self.begin(centroids.astype(centroid_type(self.executor.source.dtype)))

    def finish(self) -> Fit:
        """Make all passes that are left."""
        stages, state = self.stages() | {"score": self._score}, self.state
        self.progress.advance(sum(state.history.rows))
        while state.stage != END:
            passes = len(state.history.rows)
            stages[state.stage]()
            if len(state.history.rows) > passes:
                self._keep()
        assert state.sums is not None
        sse = state.sums.sse(state.centroids)
        scores = state.sums, sse, float(sse.sum())
        return Fit(state.centroids, *scores, state.history, state.updates, state.stopped)

    def _keep(self) -> None:
        if self.checkpoint:
            arrays, facts = self.state.pack()
            generator = self.rng.bit_generator.state
            self.checkpoint.save(self.name, arrays, facts | {"generator": generator})

    def _go_on(self, mse: float, variance: float) -> None:
        """After a pass over all rows: another one, or the scoring, as the rules say."""
        state, rules = self.state, self.rules
        reason = stopped_by(state.history, state.before, variance, rules.tol, rules.min_gain)
        state.before = mse
        if reason:
            state.stopped = reason
        if reason or state.updates == rules.max_iter:
            state.stage = "score"

    def _score(self) -> None:
        """A last pass scores the final centroids on all rows.

        Those that no row is nearest to get a new place, and all are scored again: K asked is K
        live, for sources with so many distinct rows.
        """
        state, source = self.state, self.executor.source
        sums, seconds = self.executor.run_pass(state.centroids, self.progress)
        dead = sums.counts == 0
        redrawn = int(dead.sum()) if state.revived < MAX_REDRAWS else 0
        mse = mean_squared_error(sums.sse(state.centroids), sums)
        state.history.add(sums, mse, shift=0.0, redrawn=redrawn, seconds=seconds)
        if redrawn == 0:
            state.sums, state.stage = sums, END
            return
        centroids = state.centroids.copy()
        if state.revived < MAX_REDRAWS // 2:
            fill_empty(centroids, centroids.copy(), sums, self.rules.empty, source, self.rng)
        else:  # where nearly all rows are equal, draws find no others
            live = centroids[~dead]
            rows = distinct_rows(source, len(centroids), live)
            centroids[dead] = rows[len(live) : len(centroids)]
        state.centroids = self.rules.allowed(centroids)
        state.revived += 1
