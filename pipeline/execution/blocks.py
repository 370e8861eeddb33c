"""Rows of a Dask array where its blocks lie: on the workers of a cluster.

Each block is computed once and kept by a worker, as `Client.persist` keeps it. Tasks see one of
them; only sums, and the rows that are asked for by number, come to this process.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.execution.gather import gather_rows
from pipeline.execution.scheduler import Scheduler
from pipeline.rows.arrays import DaskRows
from pipeline.rows.source import (
    ArraySource,
    RowSource,
    RowTransform,
    row_dtype,
    usual_rows,
)
from pipeline.runtime.progress import Progress
from storage.errors import InputError
from storage.patch_spec import chunk_rows

if TYPE_CHECKING:
    from distributed import Client, Future


def lazy_array(source: RowSource) -> Any:
    """The Dask array of a source's rows, (n, …), in blocks of whole rows; None: they are others."""
    given = source.array if isinstance(source, ArraySource) else None
    return given.lazy if isinstance(given, DaskRows) else None


def client_at_work() -> "Client | None":
    """The client of a cluster on which Dask computes in this process, if there is one.

    None within a task of a worker, which must not wait for others.
    """
    if "distributed" not in sys.modules:  # a second to load: who has a client has loaded it
        return None
    from dask.base import get_scheduler
    from distributed import Client, get_worker

    with suppress(ValueError):
        get_worker()
        return None
    client = getattr(get_scheduler(), "__self__", None)
    return client if isinstance(client, Client) else None


def address_of(client: "Client") -> str:
    """Of the scheduler of a client; "" for one that is closed."""
    return "" if client.scheduler is None else str(client.scheduler.address)


class SchedulerOfClient(Scheduler):
    """The cluster of a client that is at work in this process; who made it closes it."""

    def __init__(self, client: "Client", memory: int, progress: Progress) -> None:
        super().__init__(address_of(client), memory, progress)
        self._client = client


@dataclass(frozen=True)
class BlockRows:
    """How a block of an array is read as rows: as `ArraySource` reads the whole.

    dim: values of a row. stated: type of the array. no_data: see `ArraySource`. transform: of the
    rows; None: they stay.
    """

    dim: int
    stated: np.dtype
    no_data: dict[float, str]
    transform: RowTransform | None = None

    @classmethod
    def of(cls, rows: ArraySource, transform: RowTransform | None = None) -> "BlockRows":
        """Those of an array."""
        return cls(rows.dim, np.dtype(rows.array.dtype), rows.no_data, transform)

    @property
    def dtype(self) -> np.dtype:
        """Of the rows."""
        return self.transform.dtype if self.transform else row_dtype(self.stated)

    def read(self, part: np.ndarray, first: int) -> np.ndarray:
        """Rows of a part of the array, (m, …), which begins with row number `first`; (m, d)."""
        rows = usual_rows(np.asanyarray(part), first, self.stated, self.no_data)
        return self.transform.rows(rows) if self.transform else rows


class Block:
    """A source of the rows of one block, (m, …), which are those from number `first` on.

    Raises: InputError where they are not as many as the array states.
    """

    def __init__(self, how: BlockRows, block: np.ndarray, first: int, stated: int) -> None:
        if len(block) != stated:
            raise InputError(
                f"the block of rows {first} to {first + stated} holds {len(block)} rows where the"
                f" array states {stated}: call compute_chunk_sizes() first"
            )
        self.n_rows, self.dim, self.dtype = stated, how.dim, how.dtype
        self.block_rows = chunk_rows(self.dim, self.dtype.itemsize)
        self._how, self._block, self.first = how, block, first

    def read_block(self, index: int) -> np.ndarray:
        start = index * self.block_rows
        return self._how.read(self._block[start : start + self.block_rows], self.first + start)

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Those with these numbers, of the block's own, in this order."""
        return self._how.read(self._block[rows], self.first)


class BlocksOnWorkers:
    """The rows of a Dask array, whose blocks are computed and kept on the workers of a cluster.

    They are read here in usual blocks. rows: of a Dask array. transform: of its rows. array: in
    blocks of whole rows, lazy. starts: row at which each block begins, and the end, (blocks + 1,);
    those without rows are left out. held_bytes: of all blocks.
    """

    def __init__(
        self, rows: ArraySource, scheduler: Scheduler, transform: RowTransform | None = None
    ) -> None:
        self.rows, self.scheduler, self.array = rows, scheduler, lazy_array(rows)
        self.how = BlockRows.of(rows, transform)
        self.n_rows, self.dim, self.dtype = rows.n_rows, rows.dim, self.how.dtype
        self.block_rows = chunk_rows(self.dim, self.dtype.itemsize)
        self.starts = np.cumsum([0, *filter(None, self.array.chunks[0])])
        self.held_bytes = self.n_rows * self.dim * self.how.stated.itemsize

    @cached_property
    def blocks(self) -> "list[Future]":
        """All that have rows, in order; they are computed from now on."""
        delayed = self.array.to_delayed().ravel().tolist()
        filled = [one for one, rows in zip(delayed, self.array.chunks[0], strict=True) if rows]
        return list(self.scheduler.client.compute(filled))

    def tasks(self, many: int) -> "list[tuple[Future, int, int]]":
        """The first so many blocks, each with the numbers of its first row and of its rows."""
        starts = self.starts.tolist()
        each = zip(self.blocks[:many], starts, starts[1:], strict=False)
        return [(block, first, stop - first) for block, first, stop in each]

    def transformed(self, transform: RowTransform) -> "BlocksOnWorkers":
        """The same blocks, whose rows are transformed as they are read."""
        other = BlocksOnWorkers(self.rows, self.scheduler, transform)
        other.blocks = self.blocks
        return other

    def read_block(self, index: int) -> np.ndarray:
        start = index * self.block_rows
        return self.take_rows(np.arange(start, min(start + self.block_rows, self.n_rows)))

    def take_rows(self, rows: np.ndarray) -> np.ndarray:
        """See `pipeline.rows.source.take_rows`."""
        taken, futures = np.empty((len(rows), self.dim), self.dtype), {}
        holders = np.searchsorted(self.starts, rows, "right") - 1
        for index in np.unique(holders).tolist():
            places, (first, stop) = np.flatnonzero(holders == index), self.starts[index : index + 2]
            block = self.blocks[index], int(first), int(stop - first)
            task = take_on_worker, self.how, rows[places] - first, *block
            futures[self.scheduler.client.submit(*task, pure=False)] = places
        return gather_rows(self.scheduler, futures, taken)


def take_on_worker(how: BlockRows, rows: np.ndarray, *block: Any) -> np.ndarray:
    """Rows of a block with these numbers, in this order; runs on a worker."""
    return Block(how, *block).take(rows)


def of_blocks(array: Any, how: BlockRows, task: Callable[[Block], np.ndarray]) -> Any:
    """Numbers of rows as a Dask array, lazy, (n,) int32.

    array: of the rows, (n, …). task: makes the numbers of a block, (m,); each worker gets it once.
    """
    from dask.delayed import delayed

    axes = list(range(1, array.ndim))
    empty, sent = np.empty(0, np.int32), delayed(task, pure=False)
    return array.map_blocks(on_block, how, sent, dtype=np.int32, drop_axis=axes, meta=empty)


def on_block(
    block: Any, how: BlockRows, task: Callable[[Block], np.ndarray], block_info: Any = None
) -> np.ndarray:
    """What a task makes of the rows of a block; runs on a worker."""
    first, stop = block_info[0]["array-location"][0]
    return task(Block(how, block, int(first), int(stop - first)))
