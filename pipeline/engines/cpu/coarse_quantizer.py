"""Guesses for rows of which nothing is known: from coarse to fine."""

import numpy as np

from pipeline.engines.cpu.assignment_cache import room_for
from pipeline.engines.cpu.candidate_scan import walk
from pipeline.engines.cpu.centroid_table import make_table, unit_of, whole_list
from pipeline.engines.cpu.layouts import MAX_LEVEL, Known, Lists, Rows, Table
from pipeline.engines.cpu.neighbour_lists import nearest_lists
from pipeline.engines.cpu.threads import Crew

LISTED = 128  # centroids near a coarse centre that are tried
STEPS = 4  # of Lloyd, towards the coarse centres


class Coarse:
    """About √K centres of the centroids, and the centroids near each of them."""

    def __init__(self, table: Table, crew: Crew) -> None:
        self._fine, self._crew = table, crew
        k, dim = table.centroids.shape
        self._unit = unit_of(dim)
        size = 1 << max(4, round(np.log2(k) / 2))
        points = table.shifted[:k]
        centres = points[:: max(1, k // size)][:size].copy()
        for _ in range(STEPS):
            known = room_for(k, len(centres))
            walk_all(points, make_table(centres, integers=False), known, self._unit, crew)
            for j in np.unique(known.label):
                centres[j] = points[known.label == j].mean(axis=0)
        self._lists = nearest_lists(centres, table, LISTED, crew)
        wide = centres.astype(np.float64) / table.scale + table.shift
        self._table = make_table(wide.astype(table.centroids.dtype), integers=False)

    def guess(self, rows: np.ndarray, known: Known) -> tuple[int, int]:
        """A centroid near each row into `known`: the best of those near its nearest centre.

        Returns: products, rows decided in float64.
        """
        cost = walk_all(rows, self._table, known, self._unit, self._crew)
        order = np.argsort(known.label, kind="stable").astype(np.int32)
        anchors = known.label[order].astype(np.int32)
        grouped = Rows(order, anchors, np.zeros(len(rows), np.float32))
        more = _walk_to_the_end(
            rows, grouped, self._fine, self._lists, known, self._unit, self._crew
        )
        known.upper[:], known.lower[:] = MAX_LEVEL, 0  # the guess is yet to be measured
        return cost[0] + more[0], cost[1] + more[1]


def walk_all(
    rows: np.ndarray, table: Table, known: Known, unit: np.float32, crew: Crew
) -> tuple[int, int]:
    """Every row against every centroid. Returns: products, rows decided in float64."""
    return walk_some(np.arange(len(rows), dtype=np.int32), rows, table, known, unit, crew)


def walk_some(
    numbers: np.ndarray, rows: np.ndarray, table: Table, known: Known, unit: np.float32, crew: Crew
) -> tuple[int, int]:
    """The rows of these numbers, (m,) int32, against every centroid."""
    zeros = np.zeros(len(numbers), np.int32)
    together = Rows(numbers, zeros, zeros.astype(np.float32))
    lists = whole_list(len(table.centroids))
    return _walk_to_the_end(rows, together, table, lists, known, unit, crew)


def _walk_to_the_end(
    rows: np.ndarray,
    grouped: Rows,
    table: Table,
    lists: Lists,
    known: Known,
    unit: np.float32,
    crew: Crew,
) -> tuple[int, int]:
    """Let grouped rows walk the whole lists of their anchors, which are no centroids."""
    zeros = np.zeros(len(lists.beyond), np.float32)

    nothing = np.empty(0, np.int32)

    def work(first: int, stop: int) -> tuple[int, int, int]:
        place = (rows, grouped, first, stop, table, lists)
        return walk(*place, zeros, False, unit, known, zeros.copy(), nothing)

    costs = crew.run(work, crew.stretches(len(grouped.row)))
    return sum(cost[0] for cost in costs), sum(cost[1] for cost in costs)
