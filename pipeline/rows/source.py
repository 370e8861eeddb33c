"""Sources of rows, and reading ahead: the loops see blocks of rows in order, whatever lies behind.

Blocks do not depend on memory, device or threads, so that neither does any float result.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from pipeline.rows.arrays import as_array, checked_block, no_data_values
from pipeline.runtime.progress import Progress
from storage.errors import InputError
from storage.mapped_files import let_go
from storage.patch_spec import chunk_rows
from storage.patch_store import PatchStore
from storage.places.remote import RemotePlace

T = TypeVar("T")
READ_AHEAD = 1  # blocks decoded ahead; more gains nothing on local disks
REMOTE_AHEAD = 4  # the same behind a URL: what a chunk takes in work hides 50 ms then


class RowSource(Protocol):
    """Rows, in blocks that are read whole.

    Attributes:
        n_rows: number of rows.
        dim: values of a row.
        dtype: of the rows as read.
        block_rows: rows of every block but the last.

    One that makes its rows of others has `bytes_beside`, too: what it takes of each while it does.
    One whose rows others read has `take_rows` and `map_blocks`, too, as the functions below; one
    that puts smaller blocks together has `take_rows`.
    One that is slow to answer has `ahead`: how many of its blocks are to be asked for at once.
    """

    n_rows: int
    dim: int
    dtype: np.dtype
    block_rows: int

    def read_block(self, index: int) -> np.ndarray:
        """Rows [index · block_rows, …), (m, dim), m = block_rows or fewer for the last."""


class RowTransform(Protocol):
    """What is done to rows as they are read.

    dtype: of its results. bytes_beside: of each row, beside the row and its result.
    """

    dtype: np.dtype
    bytes_beside: int

    def rows(self, rows: np.ndarray) -> np.ndarray:
        """Rows, (n, d), of a row each; a result depends on nothing but its row."""

    def numba_kernels(self) -> tuple[Any, ...]:
        """Those of numba's that it calls."""


def centroid_type(rows: np.dtype) -> np.dtype:
    """Type of the centroids of such rows: float64 for float64 rows, else float32."""
    return np.dtype(np.float64 if rows == np.float64 else np.float32)


class StoreSource:
    """A patch store; its chunks are the blocks. transform: of its rows; None: they stay."""

    def __init__(self, store: PatchStore, transform: RowTransform | None = None) -> None:
        self.n_rows, self.dim = store.shape
        self.dtype = transform.dtype if transform else store.dtype
        self.block_rows = store.chunk_rows
        self.path, self.seal = store.path, store.seal
        self.store, self.transform = store, transform
        self.ahead = REMOTE_AHEAD if isinstance(store.path, RemotePlace) else READ_AHEAD
        if transform:
            self.bytes_beside = self.dim * store.dtype.itemsize + transform.bytes_beside

    def read_block(self, index: int) -> np.ndarray:
        block = self.store.read_chunk(index)
        return self.transform.rows(block) if self.transform else block


class TransformedRows:
    """Another source whose rows are transformed as they are read."""

    def __init__(self, source: RowSource, transform: RowTransform) -> None:
        self.n_rows, self.dim, self.dtype = source.n_rows, source.dim, transform.dtype
        self.block_rows = source.block_rows
        self.inner, self.transform, self.ahead = source, transform, blocks_ahead(source)
        self.bytes_beside = source.dim * source.dtype.itemsize + transform.bytes_beside

    def read_block(self, index: int) -> np.ndarray:
        return self.transform.rows(self.inner.read_block(index))


class ArraySource:
    """Anything with a shape and row slices: numpy, dask, zarr, xarray, a tensor of torch.

    Axes after the first are flattened to one. Integers of up to 16 bits stay what they are, signed
    or not; wider ones are taken as float64, as their sums and squares would not fit. Larger chunks
    than usual blocks are read whole, lest they be decoded several times. Pages of a mapped file are
    let go block by block. array: as it is read; no_data: values that it states to be none.
    Raises: InputError for what is no array, other types, no rows, no columns, an unknown number of
        rows, and as `checked_block` when they are read.
    """

    def __init__(self, array: Any) -> None:
        self.no_data = no_data_values(array)
        if not hasattr(array, "shape") or not math.isnan(array.shape[0]):
            array = as_array(array)
        dtype = np.dtype(array.dtype)
        if dtype.kind not in "uif":
            raise InputError(f"rows of type {dtype} cannot be clustered: give integers or floats")
        self.dtype = row_dtype(dtype)
        if math.isnan(array.shape[0]):
            raise InputError("the number of rows is unknown: call compute_chunk_sizes() first")
        self.n_rows = int(array.shape[0])
        self.dim = math.prod(array.shape[1:])
        if self.n_rows == 0 or self.dim == 0:
            raise InputError(f"the rows have the shape {array.shape}, which holds nothing")
        chunks = getattr(array, "chunks", None)  # zarr: (n, d); dask, xarray: ((n, n, …), (d,))
        native = (chunks[0] if isinstance(chunks[0], int) else max(chunks[0])) if chunks else 0
        self.block_rows = max(chunk_rows(self.dim, self.dtype.itemsize), native)
        self.array = array
        let_go(array)  # what was looked at before would count

    def read_block(self, index: int) -> np.ndarray:
        start = index * self.block_rows
        read = np.asanyarray(self.array[start : start + self.block_rows])
        rows = usual_rows(read, start, np.dtype(self.array.dtype), self.no_data)
        if isinstance(self.array, np.memmap):
            rows = rows.copy() if np.may_share_memory(rows, self.array) else rows
            let_go(self.array)
        return rows


class LargerBlocks:
    """Another source in larger blocks: so many of its own at a time."""

    def __init__(self, source: RowSource, blocks: int) -> None:
        self.n_rows, self.dim, self.dtype = source.n_rows, source.dim, source.dtype
        self.block_rows = source.block_rows * blocks
        self.inner, self.blocks = source, blocks
        self.ahead = -(-blocks_ahead(source) // blocks)

    def read_block(self, index: int) -> np.ndarray:
        start = index * self.block_rows
        rows = np.empty((min(self.block_rows, self.n_rows - start), self.dim), self.dtype)
        size, ahead = self.inner.block_rows, blocks_ahead(self.inner)

        def read(part: int) -> None:
            at = part * size
            rows[at : at + size] = self.inner.read_block(index * self.blocks + part)

        parts = range(-(-len(rows) // size))
        if ahead == READ_AHEAD:
            for part in parts:
                read(part)
        else:
            with ThreadPoolExecutor(ahead, thread_name_prefix="parts") as readers:
                list(readers.map(read, parts))
        return rows

    def take_rows(self, rows: np.ndarray) -> np.ndarray:
        """See the function below; of the smaller blocks, fewer rows are read in vain."""
        return take_rows(self.inner, rows)


class FirstRows:
    """The first rows of another source, in its blocks; the last may be cut."""

    def __init__(self, source: RowSource, n_rows: int) -> None:
        self.n_rows, self.dim, self.dtype = min(n_rows, source.n_rows), source.dim, source.dtype
        self.block_rows = source.block_rows
        self.ahead = blocks_ahead(source)
        self._source = source

    def read_block(self, index: int) -> np.ndarray:
        return self._source.read_block(index)[: self.n_rows - index * self.block_rows]


class HeldBlock:
    """Another source, of a single block, which is read once."""

    def __init__(self, source: RowSource) -> None:
        self.n_rows, self.dim, self.dtype = source.n_rows, source.dim, source.dtype
        self.block_rows, self._source = source.block_rows, source
        self._rows: np.ndarray | None = None

    def read_block(self, index: int) -> np.ndarray:
        if self._rows is None:
            self._rows = self._source.read_block(index)
        return self._rows


def prefix(source: RowSource, n_rows: int) -> RowSource:
    """The first rows of a source; reads no more of a gathered one than they need.

    If they are a single block, it is held for as long as the prefix is.
    """
    first: RowSource = FirstRows(source, n_rows)
    if isinstance(source, LargerBlocks):
        first = LargerBlocks(FirstRows(source.inner, n_rows), source.blocks)
    return HeldBlock(first) if block_count(first) == 1 else first


def row_dtype(dtype: np.dtype) -> np.dtype:
    """Type in which rows of a type are read."""
    if dtype.kind in "ui" and dtype.itemsize <= 2:
        return dtype.newbyteorder("=")
    # Half precision has no kernels of its own; widening it loses nothing.
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def usual_rows(
    read: np.ndarray, first: int, stated: np.dtype, no_data: Mapping[float, str]
) -> np.ndarray:
    """Rows of an array as engines take them, (n, d); see `checked_block`."""
    block = checked_block(read, first, stated, no_data)
    # kernels and torch take contiguous, writable arrays in native byte order
    return np.require(block, row_dtype(stated), ["C", "W"])


def as_source(rows: Any, n_rows: int | None = None) -> RowSource:
    """A source for a patch store or anything array-like; n_rows: the first alone, None: all.

    Raises: InputError as `ArraySource`, and for no rows.
    """
    source: RowSource = StoreSource(rows) if isinstance(rows, PatchStore) else ArraySource(rows)
    if n_rows is None:
        return source
    if n_rows < 1:
        raise InputError(f"the first {n_rows} rows are none: ask for at least one")
    return FirstRows(source, n_rows)


def blocks_ahead(source: RowSource) -> int:
    """How many blocks of a source are asked for before they are needed."""
    return int(getattr(source, "ahead", READ_AHEAD))


def block_count(source: RowSource) -> int:
    """Number of blocks of a source."""
    return -(-source.n_rows // source.block_rows)


def read_ahead(source: RowSource, indices: Iterable[int] | None = None) -> Generator[np.ndarray]:
    """Blocks in order (all, or those of `indices`), decoded on threads while the caller works."""
    waiting: deque[Future[np.ndarray]] = deque()
    ahead = blocks_ahead(source)
    order = iter(range(block_count(source)) if indices is None else indices)
    with ThreadPoolExecutor(ahead, thread_name_prefix="read-ahead") as reader:
        try:
            for index in order:
                waiting.append(reader.submit(source.read_block, index))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def map_blocks(
    source: RowSource, task: Callable[[RowSource, range, Progress], list[T]], progress: Progress
) -> list[T]:
    """What a task makes of each block, in order.

    task: is told of a source and some of its blocks, and gives what it makes of each.
    """
    if hasattr(source, "map_blocks"):
        return cast(list[T], source.map_blocks(task, progress))
    return task(source, range(block_count(source)), progress)


def take_rows(source: RowSource, rows: np.ndarray) -> np.ndarray:
    """The rows with these numbers, in the order asked for; reads only the blocks they are in.

    rows: (m,) int64. Returns: (m, dim).
    """
    if hasattr(source, "take_rows"):
        return cast(np.ndarray, source.take_rows(rows))
    taken = np.empty((len(rows), source.dim), source.dtype)
    order = np.argsort(rows, kind="stable")
    blocks, starts = np.unique(rows[order] // source.block_rows, return_index=True)
    groups = np.split(order, starts[1:])
    with closing(read_ahead(source, blocks.tolist())) as stream:
        for block, places, rows_of_block in zip(blocks, groups, stream, strict=True):
            taken[places] = rows_of_block[rows[places] - block * source.block_rows]
    return taken
