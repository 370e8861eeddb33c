"""How much farther the second nearest centroid is: what it would cost to remove the nearest."""

import numpy as np

from pipeline.engines.cpu.assignment_cache import room_for
from pipeline.engines.cpu.bounds import PendingRows
from pipeline.engines.cpu.candidate_scan import scan_whole_lists
from pipeline.engines.cpu.centroid_table import CentroidTable
from pipeline.engines.cpu.neighbour_lists import nearest_lists
from pipeline.engines.cpu.threads import ThreadPool

LISTED = 32  # neighbours among which the second nearest is looked for


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
