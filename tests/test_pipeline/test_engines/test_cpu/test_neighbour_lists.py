"""Lists of neighbours: what they hold, and what their bounds say of the rest."""

import tracemalloc

import numpy as np
import pytest

from pipeline.engines.cpu import neighbour_lists
from pipeline.engines.cpu.centroid_table import make_table
from pipeline.engines.cpu.threads import ThreadPool
from tests.oracles import squared_distances


@pytest.mark.parametrize("most", [16, 512])
def test_lists_that_no_row_has_asked_for_are_short_and_leave_out_nothing_nearer(most: int) -> None:
    rng = np.random.default_rng(3)
    centroids = (rng.random((900, 5)) ** 3 * 255).astype(np.float32)
    entries = most * 900 if most == 16 else neighbour_lists.LIST_ENTRIES
    table = make_table(centroids, integers=True)
    kept = neighbour_lists.KeptLists(ThreadPool(), entries)
    kept.update(table, None)
    start, length, member, bound, unlisted = kept.lists
    assert length.max() <= most
    assert length.mean() > 0.8 * most  # what is sorted is not cut much shorter
    distances = np.sqrt(squared_distances(centroids, centroids)) * float(table.scale)
    for anchor in range(900):
        part = slice(start[anchor], start[anchor] + length[anchor])
        listed = member[part][member[part] < 900]
        assert (distances[anchor, listed] >= bound[part][: len(listed)]).all()
        others = np.delete(distances[anchor], listed)
        assert others.min() >= unlisted[anchor] > 0.99 * distances[anchor, listed].max()


def test_the_lists_of_another_dictionary_go_before_there_is_room_for_new_ones() -> None:
    rng, entries = np.random.default_rng(3), 1 << 20
    tables = [make_table(rng.random((k, 2), np.float32), integers=False) for k in (1100, 1200)]
    kept = neighbour_lists.KeptLists(ThreadPool(), entries)
    tracemalloc.start()
    try:
        for table in tables:
            kept.update(table, None)
        assert tracemalloc.get_traced_memory()[1] < 1.5 * 8 * entries
    finally:
        tracemalloc.stop()
