"""Nested batches: Lloyd on a prefix of the rows that grows when more passes over it gain nothing.

Any prefix of a patch store is a sample of the whole. As long as a step gains more than sampling
errors cost, more rows would only make it slower; then the prefix is doubled (Newling & Fleuret
2016, arXiv 1602.02934, who compare the noise of each centroid with its move). Steps have momentum,
the last run on all rows. On the way, centroids are added and removed (see `breathing`).
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.kmeans.breathing import (
    INHALE_STEPS,
    LAST_STEPS,
    PART_STEPS,
    Breathing,
    fewest_steps,
    many_of,
    parts_of,
    planned_steps,
    rounds_within,
)
from pipeline.kmeans.empty_clusters import fill_empty
from pipeline.kmeans.history import Stopped, mean_squared_error, stopped_by
from pipeline.kmeans.loop import KMeansLoop, LoopState
from pipeline.runtime.memory import give_back

FIRST_ROWS, FIRST_PER_CENTROID = 1 << 17, 25  # of the shortest prefix
# Of that on which centroids are added and removed; with four times as many, MSE end no lower.
MOVE_ROWS, MOVE_PER_CENTROID = 1 << 18, 31
# Steps after the last removal of a round, as long as so many like the last would make it pay.
# Three each time took back 62 rounds of 100, these 27.
MOST_STEPS, PATIENCE = 12, 2.0
MOVING = 2  # prefixes with rounds: those for which there are too few steps on one are on the next
# Steps go farther than to the means, which takes six for ten (Lee, Baek & Sung 1997, Modified
# K-means algorithm for vector quantizer design, IEEE Signal Processing Letters 4; 1.8 there).
FARTHER = 1.7
# On top of that, a step goes on in the direction of the one before: Nesterov's weights up to this
# one, from zero again after one that made it worse (O'Donoghue & Candès 2015, Adaptive restart for
# accelerated gradient schemes). Without, 33 passes end 0.6 % higher at K = 5000.
MOMENTUM = 0.85
SAMPLED = 0.5  # of what sampling costs: a prefix is left where a step gains less
# Rows × centroids of steps that must gain what is wanted; others in proportion to theirs, within:
COSTLY, AT_LEAST, AT_MOST = 3e10, 0.5, 6
GAINS = 2  # of a prefix that is left, looked at together: with momentum they alternate
USUAL_STEPS = 5  # on a prefix
ENOUGH = 4e-4  # gain of a pass below which rounds begin


def prefixes(n: int, k: int, *, warm: bool) -> tuple[list[int], int]:
    """Row counts of the growing prefix, each about twice the one before; the last is n.

    warm: the centroids come from a fit on all rows, so that small samples say nothing new.
    Returns: them, and the place of the first on which centroids are moved.
    """
    sizes = [n]
    while sizes[0] >= 2 * max(FIRST_ROWS, FIRST_PER_CENTROID * k):
        sizes.insert(0, -(-sizes[0] // 2))
    enough = [size >= max(MOVE_ROWS, MOVE_PER_CENTROID * k) for size in sizes]
    moving = enough.index(True) if any(enough) else len(sizes) - 1
    return (sizes[moving:], 0) if warm else (sizes, moving)


def with_rounds(sizes: list[int], moving: int) -> range:
    """Places of the prefixes that have rounds; moving: of the first, see `prefixes`."""
    return range(moving, min(moving + MOVING, len(sizes)))


def planned_rows(n: int, k: int, rounds: int, max_iter: int, *, warm: bool) -> int:
    """Rows that the passes of a fit will see, about; for progress alone."""
    sizes, moving = prefixes(n, k, warm=warm)
    steps = [min(USUAL_STEPS, max_iter)] * len(sizes)
    places = with_rounds(sizes, moving)
    moves = planned_steps(k, rounds, max_iter * len(places))
    for place in places:
        steps[place] = min(steps[place] + moves, max_iter)
        moves -= min(moves, max_iter)
    return sum(map(operator.mul, steps, sizes)) + n


@dataclass
class NestedState(LoopState):
    """place: of the prefix, see `prefixes`. last: number of updates at which it is left. velocity:
    the last step of all centroids, (k, d), if the next goes on in its direction; steps: since they
    had none. lowest: MSE of these steps, or before a round. successors: for the next pass, see
    `Executor.relabel`. moved: whether this prefix has no rounds of moves (left). Of a round: round:
    its number. best: centroids before it. surplus: of centroids on trial. part: how many removals
    follow the next one. step: since the last change, or on the prefix.
    """

    place: int = -1
    last: int = 0
    velocity: np.ndarray | None = None
    steps: int = 0
    successors: np.ndarray | None = None
    moved: bool = False
    round: int = 0
    best: np.ndarray | None = None
    lowest: float = np.inf
    surplus: int = 0
    part: int = 0
    step: int = 0


class Nested(KMeansLoop[NestedState]):
    """Steps on growing prefixes, then on all rows; assumes prepared input.

    `max_iter` is the most steps on each prefix, moves included; `tol` and `min_gain` end the run.
    breathing: adds and removes centroids; None: no moves. rounds: how often. warm: see `prefixes`.
    """

    name, kind = "nested", NestedState

    def __init__(
        self,
        *common: Any,
        k: int,
        breathing: Breathing | None,
        rounds: int,
        warm: bool,
        **named: Any,
    ) -> None:
        super().__init__(*common, **named)
        self._k, self._breathing = k, breathing
        self._sizes, moving = prefixes(self.executor.source.n_rows, k, warm=warm)
        self._moving = with_rounds(self._sizes, moving)
        self._rounds = rounds_within(k, rounds, self.rules.max_iter * len(self._moving))

    def begin(self, centroids: np.ndarray) -> NestedState:
        return NestedState("grow", centroids)

    def stages(self) -> dict[str, Callable[[], None]]:
        return {
            "grow": self._grow,
            "settle": self._settle,
            "inhale": self._inhale,
            "exhale": self._exhale,
        }

    @property
    def _rows(self) -> int:
        return self._sizes[self.state.place]

    def _grow(self) -> None:
        """Go to the next prefix."""
        state = self.state
        state.place += 1
        state.last = state.updates + self.rules.max_iter
        done = self._breathing is None or state.round >= self._rounds
        state.moved = done or state.place not in self._moving
        state.step, state.lowest, state.stage = 0, np.inf, "settle"

    def _settle(self) -> None:
        """Until steps gain less than wanted, relative to the MSE; the last to the means."""
        state, rules, rows = self.state, self.rules, self._rows
        if state.updates == state.last:  # moves took all steps
            self._leave("max_iter")
            return
        least = rules.min_gain * min(max(AT_LEAST, self._k * rows / COSTLY), AT_MOST)
        min_gain = least if state.moved else ENOUGH
        if not (state.moved and rows == self._sizes[-1]):
            # What sampling adds to the MSE: a mean of m rows is off by its cluster's variance / m;
            # summed over clusters, weighted by their rows, that is k / rows of the MSE.
            min_gain = max(SAMPLED * self._k / rows, min_gain)
        moved, means, variance = self._step(FARTHER)
        state.step += 1
        mse, gains, reason = state.history.mse[-1], GAINS if state.moved else 1, None
        if mse <= state.lowest or state.velocity is None:
            before = state.history.mse[-1 - gains] if state.step > gains else np.inf
            reason = stopped_by(state.history, before, variance, rules.tol, gains * min_gain)
        if mse <= state.lowest:
            state.lowest = mse
            self._move_on(moved)
        else:  # too far: Lloyd's own steps until it is made good
            state.centroids, state.velocity, state.steps = means, None, 0
        if reason or state.updates == state.last:
            state.centroids = means
            self._leave(reason or "max_iter")

    def _move_on(self, moved: np.ndarray) -> None:
        """Take a step, with momentum; it ends where an empty centroid got a new place."""
        state = self.state
        if state.history.redrawn[-1]:
            state.centroids, state.velocity, state.steps = moved, None, 0
            return
        if state.velocity is not None:
            weight = min(MOMENTUM, (state.steps - 1) / (state.steps + 2))
            moved = self.rules.allowed(moved + moved.dtype.type(weight) * state.velocity)
        state.velocity, state.centroids = moved - state.centroids, moved
        state.steps += 1

    def _leave(self, stopped: Stopped) -> None:
        """The steps on a prefix are over, or those before the moves."""
        state = self.state
        if not state.moved:
            state.step, state.stage = 0, "inhale"
            state.best, state.lowest = state.centroids, state.history.mse[-1]
        elif self._rows == self._sizes[-1]:
            state.stopped, state.stage = stopped, "score"
        else:
            give_back()  # without, gaps of ever longer prefixes add up: 20 MiB at d = 225
            state.stage = "grow"

    def _inhale(self) -> None:
        """A round begins: more centroids, and steps with them."""
        state = self.state
        assert self._breathing is not None
        assert state.best is not None
        if state.step == 0:
            many = many_of(self._k, state.round, self._rounds) if state.round < self._rounds else 0
            # Rounds on all rows leave a tenth of the steps, as no others follow.
            kept = self.rules.max_iter // 10 if self._rows == self._sizes[-1] else 0
            if many and state.updates + fewest_steps(self._k, many) + kept <= state.last:
                state.centroids = self._breathing.inhale(state.best, many, self.rng)
            else:
                state.centroids = state.best
            state.surplus = len(state.centroids) - self._k
            if state.surplus == 0:
                state.best, state.moved = None, True
                state.lowest, state.stage = np.inf, "settle"
                state.velocity, state.steps = None, 0
                return
        state.centroids = self._step(FARTHER)[0]
        state.step += 1
        if state.step == INHALE_STEPS:
            state.part, state.step = parts_of(self._k, state.surplus) - 1, 0
            state.stage = "exhale"

    def _exhale(self) -> None:
        """Remove centroids down to k, a part at a time, with steps in between."""
        state = self.state
        assert self._breathing is not None
        if state.step == 0:
            parts = parts_of(self._k, state.surplus)
            goal = self._k + state.surplus * state.part // parts
            successors = np.arange(len(state.centroids))
            while len(state.centroids) > goal:
                surplus = len(state.centroids) - goal
                state.centroids, passed_on = self._breathing.exhale(state.centroids, surplus)
                successors = passed_on[successors]
            state.successors = successors
            state.velocity, state.steps = None, 0
        self._move_on(self._step(FARTHER)[0])
        state.step += 1
        if self._goes_on():
            return
        state.step = 0
        if state.part:
            state.part -= 1
        else:
            self._judge()

    def _goes_on(self) -> bool:
        """Whether another step follows before the next removal, or before the round is judged."""
        state, mse = self.state, self.state.history.mse
        if state.part:
            return state.step < PART_STEPS
        missing, gain = mse[-1] - state.lowest, mse[-2] - mse[-1]
        more = state.step < MOST_STEPS and state.updates < state.last
        return state.step < LAST_STEPS or (more and 0 <= missing < PATIENCE * gain)

    def _judge(self) -> None:
        """A round that did not help is taken back."""
        state = self.state
        assert self._breathing is not None
        assert state.best is not None
        mse = state.history.mse[-1]
        if mse < state.lowest:
            state.best, state.lowest = state.centroids, mse
        else:
            state.successors = self._breathing.nearest_among(state.centroids, state.best)
        state.round, state.stage = state.round + 1, "inhale"

    def _step(self, length: float) -> tuple[np.ndarray, np.ndarray, float]:
        """One pass over the prefix, recorded.

        Returns: the centroids `length` times as far as to their means, the means, (k, d), and the
        mean variance of the columns.
        """
        state, rules, centroids = self.state, self.rules, self.state.centroids
        if state.successors is not None:
            self.executor.relabel(state.successors)
        sums, seconds = self.executor.run_pass(centroids, self.progress, self._rows)
        state.successors = None
        mse = mean_squared_error(sums.sse(centroids), sums)
        exact = rules.allowed(sums.means(centroids))
        means = exact.astype(centroids.dtype)
        moved = (centroids + length * (exact - centroids)).astype(centroids.dtype)
        before = means.copy()
        redrawn = fill_empty(means, centroids, sums, rules.empty, self.executor.source, self.rng)
        moved = rules.allowed(np.where(np.any(before != means, axis=1)[:, None], means, moved))
        shift = float(np.square(means.astype(np.float64) - centroids).sum())
        state.history.add(sums, mse, shift=shift, redrawn=redrawn, seconds=seconds)
        state.updates += 1
        self.progress.advance(0, **{"pass": state.updates, "live": sums.live, "MSE": mse})
        return moved, means, sums.mean_variance()
