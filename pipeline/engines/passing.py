"""A pass over blocks of rows, one after the other, as engines on a CPU make it."""

from contextlib import closing
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipeline.rows.cluster_sums import ClusterSums, empty_sums
from pipeline.rows.source import Source, read_ahead
from pipeline.runtime.progress import Progress

if TYPE_CHECKING:
    from pipeline.engines.cpu.assignment_cache import RowMemory


class BlockEngine(Protocol):
    """An engine that meets block after block, and may keep what it finds of each."""

    def load(self, centroids: np.ndarray, memory: "RowMemory | None" = None) -> None:
        """Take the centroids that the next calls assign to; (k, d) float32 or float64.

        memory: of a source whose blocks are stepped through next, each once.
        """

    def step(self, rows: np.ndarray, into: ClusterSums, index: int | None = None) -> None:
        """Assign the rows and add them to `into`, in place; (n, d).

        index: of the block in the source of the memory, if any.
        """


def sum_blocks(
    engine: BlockEngine,
    source: Source,
    blocks: range,
    centroids: np.ndarray,
    memory: "RowMemory | None",
    progress: Progress,
) -> ClusterSums:
    """Sums over the rows of some blocks; see `AssignmentEngine.run_pass`."""
    if memory is not None:
        memory.expect(source.n_rows)
    engine.load(centroids, memory)
    sums = empty_sums(source, len(centroids))
    if memory is not None:
        sums = memory.totals(blocks, sums)
    with closing(read_ahead(source, blocks)) as stream:
        for index, rows in zip(blocks, stream, strict=True):
            engine.step(rows, sums, None if memory is None else index)
            progress.advance(len(rows))
    if memory is not None:
        memory.finish(sums)
    return sums
