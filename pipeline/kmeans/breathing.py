"""Breathing K-means: put centroids where error is large, take away those that are least missed.

Lloyd's algorithm keeps the number of centroids of each region for ever. Adding some, letting them
settle, and removing as many moves them to where they are of more use (Fritzke 2020, arXiv
2006.15666). Both choices are made on a sample of the rows.
"""

import math
from functools import cached_property

import numpy as np

from pipeline.config import FitOptions
from pipeline.engines import AssignmentEngine, EngineSpec
from pipeline.engines.cpu.assignment_cache import room_for
from pipeline.engines.cpu.bounds import PendingRows
from pipeline.engines.cpu.centroid_table import CentroidTable, make_table
from pipeline.engines.cpu.neighbour_lists import nearest_lists
from pipeline.engines.cpu.scan.candidate_scan import scan_whole_lists
from pipeline.engines.cpu.threads import ThreadPool
from pipeline.kmeans.d2_sampling import Field
from pipeline.kmeans.seeding import add_by_distance

ADDED = 20  # centroids in the first round, or √K, if that is more; of few no more than 2 √K
PART = 0.07  # of the centroids that are removed at once; utilities hold for few at a time
# Steps of Lloyd in a round: with those added, after a removal but the last, and after that at
# least; and what it takes beyond these, about.
INHALE_STEPS, PART_STEPS, LAST_STEPS, FURTHER_STEPS = 2, 1, 2, 1
LISTED = 32  # neighbours among which the second nearest centroid is looked for


def added(k: int) -> int:
    """How many centroids are added and removed in the first round."""
    return max(1, min(k // 2, round(max(k**0.5, min(2 * k**0.5, ADDED)))))


def rounds_of(k: int, wanted: int | None) -> int:
    """How many rounds of moves: as many as wanted, or as are worth their time; none for K = 1."""
    if k == 1:
        return 0
    return min(max(round(60000 / k), round(1000 / k**0.5), 8), 60) if wanted is None else wanted


def most_centroids(k: int, options: FitOptions) -> int:
    """Centroids at a time, at most, while k are learned: those on trial are among them."""
    on_trial = options.mode == "nested" and rounds_of(k, options.breathing)
    return k + added(k) if on_trial else k


def many_of(k: int, place: int, rounds: int) -> int:
    """How many centroids a round moves: fewer and fewer, as ever less is out of place."""
    return math.ceil(added(k) * (1 - place / rounds))


def parts_of(k: int, surplus: int) -> int:
    """In how many parts a surplus is removed."""
    return min(surplus, math.ceil(surplus / (PART * k)))


def fewest_steps(k: int, many: int) -> int:
    """Steps of a round that moves so many centroids, at least."""
    return INHALE_STEPS + PART_STEPS * (parts_of(k, many) - 1) + LAST_STEPS


def usual_steps(k: int, many: int) -> int:
    """Steps of such a round, about."""
    return fewest_steps(k, many) + FURTHER_STEPS


def rounds_within(k: int, rounds: int, steps: int) -> int:
    """As many of the rounds as there are steps for, about: later ones move ever fewer.

    Where rounds go on for long, or on all rows, up to a third of these find no steps left.
    """
    return min(rounds, max(1, steps // usual_steps(k, many_of(k, 1, 2))))


def planned_steps(k: int, rounds: int, steps: int) -> int:
    """What the rounds take of these steps, about."""
    rounds = rounds_within(k, rounds, steps)
    return sum(usual_steps(k, many_of(k, place, rounds)) for place in range(rounds))


class Breathing:
    """Adds and removes centroids by what a sample says.

    sample: (m, d), of the rows' own dtype. engine: labels the sample; None: one of its own.
    """

    def __init__(self, sample: np.ndarray, engine: AssignmentEngine | None = None) -> None:
        self._sample = sample
        self._labels, self._k = np.empty(0, np.int64), 0  # of the sample, among so many centroids
        self._engine = engine or EngineSpec.for_samples(sample.shape[1], sample.dtype).make()
        self._threads = ThreadPool()

    def inhale(self, centroids: np.ndarray, many: int, rng: np.random.Generator) -> np.ndarray:
        """The centroids and up to `many` more behind them, each a row by greedy D² sampling.

        Fewer where every row of the sample is a centroid.
        """
        added = add_by_distance(self._field, centroids, self._label(centroids), many, rng)
        return np.concatenate([centroids, self._sample[added].astype(centroids.dtype)])

    def exhale(self, centroids: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
        """The centroids, at least two, without up to `many` that are least missed.

        Fewer go where that would take the nearest from one that goes too: then call again.
        Returns: those that stay, and for each of `centroids` which of them takes its rows, (k,).
        """
        k, labels = len(centroids), self._label(centroids)
        # A table of its own, so that costs do not depend on what the engine met before.
        table = make_table(centroids, integers=self._sample.dtype.kind in "ui")
        costs, nearest = removal_costs(self._sample, labels, table, self._threads)
        stays, needed, successors = np.ones(k, bool), np.zeros(k, bool), np.arange(k)
        for j in np.argsort(costs, kind="stable"):
            if many == 0:
                break
            if not needed[j] and stays[nearest[j]]:
                stays[j], many = False, many - 1
                needed[nearest[j]] = True
                successors[j] = nearest[j]
        passed_on = (np.cumsum(stays) - 1)[successors]
        self._labels, self._k = passed_on[labels], int(stays.sum())
        return centroids[stays], passed_on

    def nearest_among(self, centroids: np.ndarray, others: np.ndarray) -> np.ndarray:
        """For each centroid, (k, d), the nearest of others, (m, d), or nearly: (k,) int64."""
        table = make_table(others, integers=False)
        anchors = ((centroids - table.shift) * table.scale).astype(np.float32)
        near = nearest_lists(anchors, table, 1, self._threads)
        nearest = near.member.reshape(len(centroids), -1)[:, 0].astype(np.int64)
        if 0 < self._k == len(centroids):
            self._labels, self._k = nearest[self._labels], len(others)
        return nearest

    def _label(self, centroids: np.ndarray) -> np.ndarray:
        """Nearest centroids of the sample, (m,); those of the last time are a good guess."""
        self._engine.load(centroids)
        guess = self._labels if 0 < self._k <= len(centroids) else None
        self._labels, self._k = self._engine.assign(self._sample, guess), len(centroids)
        return self._labels

    @cached_property
    def _field(self) -> Field:
        return Field.of(self._sample)


def removal_costs(
    rows: np.ndarray, labels: np.ndarray, table: CentroidTable, threads: ThreadPool
) -> tuple[np.ndarray, np.ndarray]:
    """By how much the SSE of these rows would grow without each centroid (its utility, as in
    Fritzke 1997 and 2020), and which centroid is nearest to it.

    rows: (n, d). labels: (n,) nearest centroids. The second nearest is looked for among the
    neighbours of the nearest alone, and measured to a level of the table: an estimate.
    Returns: (k,) float64, in the rows' own squared unit; (k,) int64, k >= 2.
    """
    k = len(table.centroids)
    near = nearest_lists(table.shifted[:k], table, LISTED, threads)
    # Nothing nearer lies beyond the lists.
    lists = near._replace(unlisted_bound=np.full(k, np.inf, np.float32))
    order = np.argsort(labels, kind="stable").astype(np.int32)
    grouped = PendingRows(order, labels[order].astype(np.int32), np.zeros(len(rows), np.float32))
    known = room_for(len(rows), k)
    scan_whole_lists(rows, grouped, table, lists, known, threads)
    length = float(table.level) / float(table.scale)
    own, other = (np.square(levels * length) for levels in (known.upper, known.lower))
    costs = np.bincount(known.label, np.maximum(other - own, 0.0), minlength=k)
    member = near.member.reshape(k, -1)
    itself = member[:, 0] == np.arange(k)
    return costs, np.where(itself, member[:, 1], member[:, 0]).astype(np.int64)
