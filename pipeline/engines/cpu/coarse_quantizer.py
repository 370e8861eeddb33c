"""Guesses for rows of which nothing is known: from coarse to fine."""

import numpy as np

from pipeline.engines.cpu.assignment_cache import CachedAssignments, room_for, set_unknown
from pipeline.engines.cpu.bounds import PendingRows
from pipeline.engines.cpu.centroid_table import CentroidTable, head_points, make_table
from pipeline.engines.cpu.neighbour_lists import nearest_lists
from pipeline.engines.cpu.scan.candidate_scan import scan_all, scan_whole_lists
from pipeline.engines.cpu.scan.heads import Heads
from pipeline.engines.cpu.threads import ThreadPool

LISTED = 128  # centroids near a coarse centre that are tried
STEPS = 4  # of Lloyd, towards the coarse centres


class CoarseQuantizer:
    """About √K centres of the centroids, and the centroids near each of them.

    basis: of the heads that the table's points are; None: they are the centroids.
    """

    def __init__(self, table: CentroidTable, threads: ThreadPool, basis: np.ndarray | None) -> None:
        self._fine, self._threads = table, threads
        k = len(table.centroids)
        size = 1 << max(4, round(np.log2(k) / 2))
        points = table.shifted[:k]
        centres = points[:: max(1, k // size)][:size].copy()
        everything = np.arange(k, dtype=np.int32)
        for _ in range(STEPS):
            known = room_for(k, len(centres))
            scan_all(points, everything, make_table(centres, integers=False), known, threads)
            for j in np.unique(known.label):
                centres[j] = points[known.label == j].mean(axis=0)
        anchors = centres
        if basis is not None:
            anchors = head_points(centres, basis).astype(np.float32)
        self._lists = nearest_lists(anchors, table, LISTED, threads)
        wide = centres.astype(np.float64) / table.scale + table.shift
        self._table = make_table(
            wide.astype(table.centroids.dtype),
            integers=False,
            of_bytes=len(table.quantized.words) > 0,
        )

    def guess(
        self, rows: np.ndarray, known: CachedAssignments, heads: Heads | None
    ) -> tuple[int, int]:
        """A centroid near each row into `known`: the best of those near its nearest centre.

        Returns: products, rows decided in float64.
        """
        everything = np.arange(len(rows), dtype=np.int32)
        cost = scan_all(rows, everything, self._table, known, self._threads, guess=True)
        order = np.argsort(known.label, kind="stable").astype(np.int32)
        anchors = known.label[order].astype(np.int32)
        grouped = PendingRows(order, anchors, np.zeros(len(rows), np.float32))
        more = scan_whole_lists(
            rows, grouped, self._fine, self._lists, known, self._threads, heads, guess=True
        )
        set_unknown(known)  # the guess is yet to be measured
        return cost[0] + more[0], cost[1] + more[1]
