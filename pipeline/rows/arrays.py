"""Arrays that people have rows in: numpy, dask, zarr, xarray, data frames, tensors of torch."""

import os
from typing import Any

import numpy as np

from storage.errors import InputError

NOT_LAZY = ("columns", "tocsr", "detach")  # data frames, sparse matrices, tensors


def is_lazy(rows: Any) -> bool:
    """Whether rows need not be in memory: a store, dask, zarr and xarray arrays, a mapped file."""
    if isinstance(rows, np.ndarray):
        return isinstance(rows, np.memmap) and rows.ndim > 1 and rows.size > 0
    return hasattr(rows, "shape") and not any(hasattr(rows, name) for name in NOT_LAZY)


def as_array(rows: Any) -> Any:
    """Rows with a shape, a type and slices; what has these is returned as it is.

    Raises: InputError for what only leads to arrays.
    """
    if isinstance(rows, (str, os.PathLike)):
        raise InputError(
            f"{os.fspath(rows)!r} is a path: open it first (open_patches, numpy.load, zarr.open)"
        )
    for names in ("array_keys", "data_vars"):  # a group of zarr, a Dataset of xarray
        if hasattr(rows, names):
            found = getattr(rows, names)
            listed = ", ".join(map(repr, found() if callable(found) else found))
            raise InputError(f"a {type(rows).__name__} holds arrays: give one of them ({listed})")
    if hasattr(rows, "detach"):
        rows = rows.detach().cpu()
        # numpy knows no bfloat16; widening it loses nothing
        return (
            rows.float() if rows.dtype.is_floating_point and rows.itemsize == 2 else rows
        ).numpy()
    if hasattr(rows, "dims") and getattr(rows, "chunks", None):  # Dask's, within xarray's
        rows = rows.data
    return DaskRows(rows) if hasattr(rows, "dask") else rows


class DaskRows:
    """Rows of a Dask array, whose blocks may be of any size: read in order, each is computed once.

    Args:
        array: (n, …), n known.
    """

    def __init__(self, array: Any) -> None:
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks
        self._array = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
        self._ends = np.cumsum(array.chunks[0])
        self._kept: tuple[int, Any] = (-1, None)  # the block that was computed last

    def __getitem__(self, rows: slice) -> Any:
        parts = []
        start, stop = rows.start, min(rows.stop, self.shape[0])
        while start < stop:
            block = int(np.searchsorted(self._ends, start, "right"))
            if self._kept[0] != block:
                self._kept = block, self._array.blocks[block].compute()
            kept, end = self._kept[1], min(stop, self._ends[block])
            parts.append(kept[len(kept) - (self._ends[block] - start) :][: end - start])
            start = end
        return parts[0] if len(parts) == 1 else np.ma.concatenate(parts)


def checked_block(read: np.ndarray, first: int, stated: np.dtype | None = None) -> np.ndarray:
    """Rows that were read, (n, …), as a plain array (n, d).

    Args:
        read: an array, of numpy or masked.
        first: number of the first row, for the message.
        stated: type that the whole array says it has, if another.

    Raises:
        InputError: rows that are masked, infinite or NaN, or of a type that `stated` cannot hold.
    """
    block = np.ma.getdata(read)
    block = block.reshape(len(block), -1)
    where = f"of rows {first} to {first + len(block)}"
    mask = np.ma.getmaskarray(read).reshape(block.shape) if np.ma.isMaskedArray(read) else None
    if mask is not None and mask.any():
        raise InputError(f"{mask.any(1).sum()} {where} have masked values: remove or fill them")
    if block.dtype.kind == "f" and not (finite := np.isfinite(block).all(1)).all():
        number = np.count_nonzero(~finite)
        raise InputError(f"{number} {where} hold infinite values or NaN: remove them")
    if stated is not None and not np.can_cast(block.dtype, stated, "safe"):
        raise InputError(
            f"those {where} are {block.dtype} where the array states {stated}: convert them"
        )
    return block
