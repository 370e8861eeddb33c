"""Arrays that people have rows in: numpy, dask, zarr, xarray, data frames, tensors of torch."""

import os
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import numpy as np

from storage.errors import InputError
from storage.images.array_reader import one_array
from storage.images.formats.pieces import FILLS, PACKED

NOT_LAZY = ("columns", "tocsr", "detach")  # data frames, sparse matrices, tensors
ROUNDED = 1 << 53  # float64 rounds integers beyond
SPREAD = 1024  # of rounded rows, in their last bits, that leaves an SSE right to 1e-6


def is_lazy(rows: Any) -> bool:
    """Whether rows need not be in memory: a store, dask, zarr and xarray arrays, a mapped file."""
    if isinstance(rows, np.ndarray):
        return isinstance(rows, np.memmap) and rows.ndim > 1 and rows.size > 0
    if hasattr(rows, "dims"):  # xarray's, which have their coordinates as attributes too
        return True
    return hasattr(rows, "shape") and not any(hasattr(rows, name) for name in NOT_LAZY)


def as_array(rows: Any) -> Any:
    """Rows with a shape, a type and slices; what has these is returned as it is.

    Raises: InputError for what only leads to arrays.
    """
    if isinstance(rows, (str, os.PathLike)):
        raise InputError(
            f"{os.fspath(rows)!r} is a path: open it first (open_patches, numpy.load, zarr.open;"
            " extract(…).store cuts patches of images)"
        )
    rows = one_array(rows)
    if hasattr(rows, "dims") and getattr(rows, "chunks", None):  # Dask's, within xarray's
        rows = rows.data
    return DaskRows(rows) if hasattr(rows, "dask") else rows


def no_data_values(rows: Any) -> dict[float, str]:
    """Values that an array of xarray, HDF5 or zarr states to be no data; with each what to do."""
    encoding = getattr(rows, "encoding", {})
    if any(name in encoding for name in PACKED):  # it is of the file, whose numbers were others
        encoding = {}
    dims = list(getattr(rows, "dims", ()))[1:]
    others = f", X[(X != {{}}).all({(dims[0] if len(dims) == 1 else dims)!r}).compute()]"
    told = {}
    for attributes in (encoding, getattr(rows, "attrs", {})):
        for name in FILLS if isinstance(attributes, Mapping) else ():
            for value in _numbers(attributes.get(name, ())):
                remedy = others.format(value) if dims else ""
                told[value] = f"which {name} states as no data: keep the others{remedy}"
    return told


def _numbers(stated: Any) -> list[float]:
    """As Python's numbers, which do not widen the type of rows that they are compared with."""
    found = []
    for value in np.ravel(stated).tolist():
        with suppress(ValueError):
            value = float(value) if isinstance(value, (str, bytes)) else value
        if isinstance(value, (int, float)):
            found.append(value)
    return found


class DaskRows:
    """Rows of a Dask array, whose blocks may be of any size: read in order, each is computed once.

    Args:
        array: (n, …), n known.

    Attributes:
        lazy: the same, in blocks of whole rows.
    """

    def __init__(self, array: Any) -> None:
        self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks
        self.lazy = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
        self._ends = np.cumsum(array.chunks[0])
        self._kept: tuple[int, Any] = (-1, None)  # the block that was computed last

    def __getitem__(self, rows: slice) -> Any:
        parts = []
        start, stop = rows.start, min(rows.stop, self.shape[0])
        while start < stop:
            block = int(np.searchsorted(self._ends, start, "right"))
            if self._kept[0] != block:
                self._kept = block, self.lazy.blocks[block].compute()
            kept, end = self._kept[1], min(stop, self._ends[block])
            parts.append(kept[len(kept) - (self._ends[block] - start) :][: end - start])
            start = end
        return parts[0] if len(parts) == 1 else np.ma.concatenate(parts)


def checked_block(
    read: np.ndarray,
    first: int,
    stated: np.dtype | None = None,
    no_data: Mapping[float, str] = MappingProxyType({}),
) -> np.ndarray:
    """Rows that were read, (n, …), as a plain array (n, d).

    Args:
        read: an array, of numpy or masked.
        first: number of the first row, for the message.
        stated: type that the whole array says it has, if another.
        no_data: as of `no_data_values`.

    Raises:
        InputError: rows that are masked, infinite or NaN, or hold no data, or are of a type that
            `stated` cannot hold, or integers that float64 cannot tell apart.
    """
    block = np.ma.getdata(read)
    block = block.reshape(len(block), -1)
    where = f"of rows {first} to {first + len(block)}"
    mask = np.ma.getmaskarray(read).reshape(block.shape) if np.ma.isMaskedArray(read) else None
    if mask is not None and mask.any():
        raise InputError(f"{mask.any(1).sum()} {where} have masked values: remove or fill them")
    if block.dtype.kind == "f" and not (finite := np.isfinite(block).all(1)).all():
        number = np.count_nonzero(~finite)
        raise InputError(
            f"{number} {where} hold infinite values or NaN: remove these rows or fill the values"
        )
    for value, told in no_data.items():
        with np.errstate(over="ignore"):  # halves hold no 1e20
            held = (block == value).any(1)
        if held.any():
            raise InputError(f"{held.sum()} {where} hold {value}, {told}")
    if stated is not None and not np.can_cast(block.dtype, stated, "safe"):
        raise InputError(
            f"those {where} are {block.dtype} where the array states {stated}: convert them"
        )
    if block.dtype.kind in "ui" and block.dtype.itemsize > 4 and len(block):
        low, high = block.min(0).astype(object), block.max(0).astype(object)
        largest, spread = max(-low.min(), high.max()), (high - low).max()
        if largest > ROUNDED and 0 < spread < SPREAD * np.spacing(float(largest)):
            raise InputError(
                f"those {where} are integers up to {largest} that differ by {spread} at most, which"
                " float64 cannot tell apart: subtract an offset first"
            )
    return block
