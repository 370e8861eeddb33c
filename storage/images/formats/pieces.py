"""Pieces of files that were read last, and readers of arrays that are stored in pieces."""

import itertools
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from storage.errors import InputError, PatchDictError, refusal
from storage.images.options import UNSTATED, ImageOptions
from storage.images.reader import window_bounds

Fetch = Callable[[tuple[slice, ...]], np.ndarray]  # reads what lies at a place in an array

READ_BYTES = 1 << 18  # at once, where a file has smaller pieces or none
FILLS = ("_FillValue", "missing_value")  # attributes that state a value of no data
PACKED = {"scale_factor": 1, "add_offset": 0}  # attributes that xarray makes floats by: no change
KEPT_BYTES = 16 << 20  # of pieces, where two of them are smaller
_log = logging.getLogger(__name__)


class PieceCache:
    """The pieces that were read last, for windows that share them; threads may ask at once."""

    def __init__(self, room: int) -> None:
        """room: bytes that are kept."""
        self._room, self._held = room, 0
        self._pieces = OrderedDict[Any, np.ndarray]()
        self._turns: dict[Any, threading.Lock] = {}  # of pieces that are being read
        self._lock = threading.Lock()

    def get(self, key: Any, read: Callable[[], np.ndarray]) -> np.ndarray:
        """The piece of this key, which `read` brings where it is not kept; not to be changed."""
        with self._lock:
            if (found := self._pieces.get(key)) is not None:
                self._pieces.move_to_end(key)
                return found
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            if (found := self._pieces.get(key)) is not None:
                return found  # another thread has read it meanwhile
            try:
                piece = read()
                with self._lock:
                    self._held -= self._pieces[key].nbytes if key in self._pieces else 0
                    self._pieces[key] = piece
                    self._held += piece.nbytes
                    while self._held > self._room:
                        self._held -= self._pieces.popitem(last=False)[1].nbytes
            finally:
                self._turns.pop(key, None)
        return piece


def reason_of(error: Exception) -> str:
    """What a library said, in one line; its class where it said nothing."""
    if isinstance(error, OSError) and error.strerror:
        return refusal(error)
    return " ".join(str(error).split())[:200] or type(error).__name__


def rows_together(shape: Sequence[int], letters: str, dtype: np.dtype) -> tuple[int, ...]:
    """Shape of pieces of an array that lies in rows: one image's, as many as are read at once."""
    sides = dict(zip(letters, shape, strict=True))
    row = sides["W"] * sides.get("C", 1) * dtype.itemsize
    taken = {"N": 1, "H": max(1, READ_BYTES // row)}
    return tuple(taken.get(axis, side) for axis, side in zip(letters, shape, strict=True))


def meaning(dtype: np.dtype, notes: Mapping[str, Any]) -> tuple[np.dtype, tuple[Any, ...]]:
    """Type of the pixels of an array, and their values of no data, as its attributes state both.

    Integers get the sign that `_Unsigned` states: NetCDF 3 has no unsigned ones, OPeNDAP no signed
    bytes. NaN is no value here: it is refused elsewhere.
    """
    said = np.ravel(notes.get("_Unsigned", ""))
    told = said[0] if said.size == 1 else ""
    told = (told.decode(errors="replace") if isinstance(told, bytes) else str(told)).lower()
    kind = {("i", "true"): "u", ("u", "false"): "i"}.get((dtype.kind, told))
    meant = np.dtype(f"{dtype.byteorder}{kind}{dtype.itemsize}") if kind else dtype
    stated = [np.ravel(notes[name]) for name in FILLS if name in notes]
    fills = [one[0] for one in stated if one.size == 1 and one.dtype.kind in "iuf"]
    if kind:  # a value has either sign, too
        fills = [np.int64(fill).astype(meant) for fill in fills if np.isfinite(fill)]
    return meant, tuple(fill for fill in fills if fill == fill)


@cache  # once for all that open it
def _tell_packed(where: str) -> None:
    _log.warning(
        f"{where}: pixels are taken as they are stored; scale_factor and add_offset, by which"
        " xarray makes other numbers of them, are not applied"
    )


def check_packed(where: str, notes: Mapping[str, Any]) -> None:
    """Say it on standard error where attributes state how other numbers are made of the pixels."""
    if any((np.ravel(notes.get(name, same)) != same).any() for name, same in PACKED.items()):
        _tell_packed(where)


def without_data(pixels: np.ndarray, fill: Any, channels: int | None) -> np.ndarray:
    """Which pixels hold no data, bool, without the axis of channels.

    In one channel of a colour 0 is a level as any other, and so is every level of unsigned pixels:
    there all channels must hold the value.

    Args:
        pixels: of any layout.
        fill: the value for no data.
        channels: axis of the channels; None: there is none.
    """
    found = np.asarray(pixels == fill)
    if channels is None:
        return found
    level = fill == 0 or pixels.dtype.kind == "u"
    return np.asarray(found.all(axis=channels) if level else found.any(axis=channels))


def checked_fills(fills: Sequence[Any], options: ImageOptions) -> Sequence[Any]:
    """The values of no data that are to be refused.

    None where the options state one themselves, or a mask says of all pixels of a patch that they
    are to be taken.
    """
    masked = options.mask is not None and options.mask_by == "all"
    return () if options.nodata is not None or masked else fills


def check_data(where: str, pixels: np.ndarray, fills: Sequence[Any]) -> None:
    """Raise InputError for pixels of the values that their file states for no data.

    pixels: (rows, columns[, channels]) of an image. where: names its file.
    """
    for fill in fills:
        if without_data(pixels, fill, 2 if pixels.ndim == 3 else None).any():
            raise InputError(
                f"{where} holds pixels of no data (the value that it states for them):"
                f" {way_out(fill)}"
            )


def way_out(fill: float) -> str:
    """What to do about pixels of no data."""
    return (
        f"give nodata={fill:g} to leave their patches out (of colours, with {fill:g} in any"
        " channel), or a mask of what is to be taken, or fill them"
    )


class ChunkedReader:
    """Images in an array of any layout that is stored in chunks: an `ImageReader`.

    Of a window only the chunks are read that it touches. Pixels are of the type that the attributes
    of the array state; those that these state to hold no data are refused, see `check_data`.
    """

    def __init__(
        self,
        where: str,
        shape: Sequence[int],
        dtype: np.dtype,
        letters: str,
        chunks: Sequence[int],
        fetch: Fetch,
        notes: Mapping[str, Any] = MappingProxyType({}),
        options: ImageOptions = UNSTATED,
    ) -> None:
        """Nothing is read yet.

        Args:
            where: names the array in an error.
            shape: of the array.
            dtype: of the array.
            letters: one of N, H, W, C for each axis; all axes N together number the images.
            chunks: shape of a chunk.
            fetch: reads one chunk; threads call it at once.
            notes: attributes of the array.
            options: what is stated of the images.

        Raises: InputError where the array holds nothing.
        """
        if 0 in shape:
            raise InputError(f"{where} has the shape {tuple(shape)}, which holds no images")
        self._stored = dtype.newbyteorder("=")
        self.dtype, fills = meaning(self._stored, notes)
        self.where, self._fills = where, checked_fills(fills, options)
        self._shape, self._letters, self._fetch = tuple(shape), letters, fetch
        self._chunks = tuple(min(*pair) for pair in zip(chunks, shape, strict=True))
        sides = dict(zip(letters, shape, strict=True))
        self.channels = sides.get("C", 0)
        self._stack = tuple(s for s, axis in zip(shape, letters, strict=True) if axis == "N")
        size = np.array([sides["H"], sides["W"]], np.int64)
        self.sizes = np.broadcast_to(size, (math.prod(self._stack), 2))
        self.piece = (self._chunks[letters.index("H")], self._chunks[letters.index("W")])
        chunk_bytes = math.prod(self._chunks) * dtype.itemsize
        self.resident_bytes = min(math.prod(shape) * dtype.itemsize, KEPT_BYTES + 2 * chunk_bytes)
        self._cache = PieceCache(self.resident_bytes)
        # axes of an image in the array, in the order in which they are handed out
        self._order = [letters.index(axis) for axis in "HWC" if axis in letters]

    def name(self, index: int) -> str:
        return f"image {index} of {self.where}"

    def read(self, index: int, rows: slice, cols: slice) -> np.ndarray:
        top, bottom, left, right = window_bounds(rows, cols, self.sizes[index])
        number = iter(np.unravel_index(index, self._stack) if self._stack else ())
        reach = {"H": (top, bottom), "W": (left, right), "C": (0, self.channels)}
        window = []
        for axis in self._letters:
            first = int(next(number)) if axis == "N" else 0
            window.append(reach.get(axis, (first, first + 1)))
        found = np.empty([stop - start for start, stop in window], self.dtype)
        if found.size:
            touched = [
                range(start // step, -(-stop // step))
                for (start, stop), step in zip(window, self._chunks, strict=True)
            ]
            for at in itertools.product(*touched):
                self._paste(at, window, found)
        kept = tuple(0 if axis == "N" else slice(None) for axis in self._letters)
        ranks = np.argsort(np.argsort(self._order))  # of the axes that are left
        pixels = np.ascontiguousarray(found[kept].transpose(ranks))
        check_data(self.where, pixels, self._fills)
        return pixels

    def _paste(self, at: tuple[int, ...], window: list[tuple[int, int]], found: np.ndarray) -> None:
        """Copy what a chunk has of the window."""
        place = tuple(
            slice(number * step, min(side, (number + 1) * step))
            for number, step, side in zip(at, self._chunks, self._shape, strict=True)
        )
        chunk = self._cache.get(at, lambda: self._chunk(place))
        source, target = [], []
        for (start, stop), part in zip(window, place, strict=True):
            first, last = max(start, part.start), min(stop, part.stop)
            source.append(slice(first - part.start, last - part.start))
            target.append(slice(first - start, last - start))
        found[tuple(target)] = chunk[tuple(source)]

    def _chunk(self, place: tuple[slice, ...]) -> np.ndarray:
        expected = tuple(part.stop - part.start for part in place)
        try:
            chunk = np.asarray(self._fetch(place))
            if chunk.shape != expected:
                raise ValueError(f"it has the shape {chunk.shape} where {expected} is expected")
            if self._stored != self.dtype:  # bytes in this order, before their sign is another
                chunk = np.ascontiguousarray(chunk, self._stored).view(self.dtype)
        except PatchDictError:
            raise
        except Exception as error:  # libraries of formats raise of all kinds
            first = ", ".join(str(part.start) for part in place)
            raise InputError(
                f"{self.where} is damaged, or was changed or removed, in its piece at ({first}):"
                f" {reason_of(error)}; put it back or fetch it again"
            ) from error
        return chunk
