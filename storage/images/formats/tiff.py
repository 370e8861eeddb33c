"""TIFF of several pages, in tiles, or of kinds that Pillow has not, through tifffile.

Single pages that are to be converted (palettes, CMYK, turned ones) are left to Pillow, and all of
them where tifffile is not installed.
"""

import logging
import math
import os
import threading
import weakref
from importlib import import_module
from typing import Any

import numpy as np

from storage.errors import InputError, PatchDictError, shortened
from storage.images.formats import raster
from storage.images.formats.pieces import (
    READ_BYTES,
    ChunkedReader,
    reason_of,
    rows_together,
)
from storage.images.formats.raster import NO_EXTRA, TIFF_SUFFIXES, Picture
from storage.images.options import UNSTATED, ImageOptions
from storage.mapped_files import let_go

_JPEG = (6, 7, 34892, 33007)  # compressions
_SHOWN = 6  # images in an error


def examine(path: str) -> Picture:
    """What the header of an image file says, TIFF or not. Raises: InputError."""
    try:
        return raster.examine(path)
    except InputError:
        if (reader := _beyond_pillow(path)) is None:
            raise
    rows, cols = (int(side) for side in reader.sizes[0])
    return Picture(rows, cols, reader.channels, reader.dtype)


def decode(path: str, options: ImageOptions = UNSTATED) -> np.ndarray:
    """All pixels of an image file, TIFF or not. Raises: InputError."""
    try:
        return raster.decode(path, options)
    except InputError:
        if (reader := _beyond_pillow(path, options)) is None:
            raise
    return reader.read(0, slice(None), slice(None))


def open_tiff(
    path: str, name: str | None = None, options: ImageOptions = UNSTATED
) -> ChunkedReader | None:
    """The images of a file, one for each page; None where Pillow is to read it.

    Args:
        path: of the file.
        name: which images of several that differ: a number, and that of a smaller level, as in
            "0" or "0/1".
        options: what is stated of the images.

    Raises: InputError: damaged, several images and no name, or pixels that are not taken; those of
        the value that the file states for no data are refused as they are read.
    """
    try:
        tifffile = import_module("tifffile")
    except ImportError as error:
        if name is not None:
            raise InputError(f"cannot open {path}::{name}: {NO_EXTRA}") from error
        return None
    faults = _faults_of_this_thread()
    try:
        file = tifffile.TiffFile(path)
        try:
            reader = _reader(path, name, file, options)
            if faults:
                raise ValueError(faults[0])
        except BaseException:
            file.close()
            raise
    except PatchDictError:
        raise
    except Exception as error:  # tifffile raises of all kinds
        if isinstance(error, OSError) and error.strerror:
            raise InputError(f"cannot read {path}: {error.strerror}") from error
        raise InputError(
            f"{path} is not a whole TIFF ({reason_of(error)}): fetch it again"
        ) from error
    if reader is None:
        file.close()
    else:
        weakref.finalize(reader, file.close)  # which later pages are read from
    return reader


def _beyond_pillow(path: str, options: ImageOptions = UNSTATED) -> ChunkedReader | None:
    """The one image of a TIFF that Pillow refuses; None where tifffile cannot help either."""
    if not path.lower().endswith(TIFF_SUFFIXES):
        return None
    if (reader := open_tiff(path, None, options)) is None:
        return None
    if len(reader.sizes) > 1:
        raise InputError(f"{path} holds {len(reader.sizes)} images: give it by itself")
    return reader


def _reader(path: str, name: str | None, file: Any, options: ImageOptions) -> ChunkedReader | None:
    where = path if name is None else f"{path}::{name}"
    series = _series(path, name, file)
    page = series.keyframe
    colours = page.photometric
    plain = colours in (1, 2) or (colours == 6 and page.compression in _JPEG)
    upright = page.tags.valueof(274, 1) in (0, 1)
    if not (plain and upright and (page.bitspersample != 1 or len(file.pages) > 1)):
        if len(file.pages) == 1 and name is None:
            return None
        what = f"colours of kind {int(colours)}" if not plain else "pixels that are turned"
        raise InputError(f"{where} holds {what}: save it as plain grey or RGB")
    if series.is_multifile or (page.shaped[1] != 1 and series.dataoffset is None):
        raise InputError(f"{where} is of several files or of volumes: save it as plain pages")
    if series.dataoffset is not None:
        return _mapped(where, path, series, file.byteorder, options)
    try:
        _ = page.compression == 1 or import_module("tifffile").TIFF.DECOMPRESSORS[page.compression]
    except KeyError as error:
        raise InputError(f"{where} cannot be unpacked ({reason_of(error)}): {NO_EXTRA}") from error
    return _in_pieces(where, path, series, options)


def _mapped(
    where: str, path: str, series: Any, byteorder: str, options: ImageOptions
) -> ChunkedReader:
    """Images whose pixels lie in the file as they are in memory."""
    shape, letters = series.shape, _letters(series.axes)
    kind = series.dtype.newbyteorder(byteorder)
    pixels = np.memmap(path, kind, "r", series.dataoffset, shape)

    def fetch(place: tuple[slice, ...]) -> np.ndarray:
        copy = np.array(pixels[place])
        let_go(pixels)
        return copy

    chunks = rows_together(shape, letters, series.dtype)
    notes = _notes(series.keyframe)
    return ChunkedReader(where, shape, series.dtype, letters, chunks, fetch, notes, options)


def _notes(page: Any) -> dict[str, Any]:
    """What a page states of its pixels, as arrays do."""
    return raster.fill_of(page.tags.valueof(raster.GDAL_NODATA))


def _in_pieces(where: str, path: str, series: Any, options: ImageOptions) -> ChunkedReader:
    """Images in tiles or strips."""
    page, shape, axes = series.keyframe, series.shape, series.axes
    ahead = len(shape) - page.ndim  # axes that number the pages
    if shape[ahead:] != page.shape or math.prod(shape[:ahead]) != len(series):
        shape, axes, ahead = (len(series), *page.shape), "I" + page.axes, 1
    pages = _Pages(path, series)
    sides = {"Y": pages.rows, "X": pages.cols, "S": page.samplesperpixel if pages.mixed else 1}
    dtype = np.dtype(np.uint8) if series.dtype == bool else series.dtype

    def fetch(place: tuple[slice, ...]) -> np.ndarray:
        number = 0
        for part, side in zip(place[:ahead], shape, strict=False):
            number = number * side + part.start
        within = dict(zip(page.axes, place[ahead:], strict=True))
        return pages.read(number, within).reshape([part.stop - part.start for part in place])

    chunks = (*(1,) * ahead, *(sides[axis] for axis in page.axes))
    notes, letters = _notes(page), _letters(axes)
    return ChunkedReader(where, shape, dtype, letters, chunks, fetch, notes, options)


def _series(path: str, name: str | None, file: Any) -> Any:
    """Pages of one kind, as tifffile puts them together."""
    found = file.series
    if name is None:
        if len(found) == 1:
            return found[0]
        told = "; ".join(
            f"::{number} {'×'.join(map(str, one.shape))} {one.dtype}"
            for number, one in enumerate(found[:_SHOWN])
        )
        raise InputError(f"{path} holds {len(found)} kinds of images: name one, as in {told}")
    try:
        number, _, level = name.partition("/")
        return found[int(number)].levels[int(level or 0)]
    except (ValueError, IndexError) as error:
        raise InputError(
            f"no images {shortened(name)} in {path}: it holds 0 to {len(found) - 1}, and levels of"
            f" them as in 0/1 ({len(found[0].levels)})"
        ) from error


def _letters(axes: str) -> str:
    """Rows, columns, and one axis of channels; all others number the images."""
    channels = "S" if "S" in axes else "C"
    return "".join({"Y": "H", "X": "W", channels: "C"}.get(axis, "N") for axis in axes)


class _Faults(logging.Handler):
    """What tifffile logs as an error, by thread, and goes on, with fewer pages."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.local = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        if (told := getattr(self.local, "told", None)) is not None:
            told.append(record.getMessage())


_FAULTS = _Faults()


def _faults_of_this_thread() -> list[str]:
    """A list that errors are added to from now on, until the next call."""
    logging.getLogger("tifffile").addHandler(_FAULTS)  # once, it is the same
    found: list[str] = []
    _FAULTS.local.told = found
    return found


class _Pages:
    """Pages that are stored in tiles or strips; threads read at once.

    mixed: whether the channels of a pixel lie together.
    rows, cols: of a tile, or of strips that are read together.
    """

    def __init__(self, path: str, series: Any) -> None:
        self._series, self._page = series, series.keyframe
        page = self._page
        self.mixed = page.planarconfig == 1
        self._step = page.tilelength if page.is_tiled else min(page.rowsperstrip, page.imagelength)
        self.cols = page.tilewidth if page.is_tiled else page.imagewidth
        self.rows = self._step
        if not page.is_tiled:
            row = self.cols * (page.samplesperpixel if self.mixed else 1) * page.dtype.itemsize
            self.rows *= max(1, READ_BYTES // (row * self._step))
        self._lock = threading.Lock()
        self._handle = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._handle)

    def read(self, number: int, place: dict[str, slice]) -> np.ndarray:
        """Pixels of one page, (1 or channels, rows, columns, 1) or (1, rows, columns, channels)."""
        page, rows, cols = self._page, place["Y"], place["X"]
        faults = _faults_of_this_thread()
        plane = place["S"].start if "S" in place and not self.mixed else 0
        with self._lock:  # frames are read from the file when they are first asked for
            frame = self._series[number]
            if frame is None or faults:
                raise ValueError(*faults[:1] or [f"page {number} is missing"])
            offsets, counts = frame.dataoffsets, frame.databytecounts
            known = {}
            if page.compression in _JPEG:
                known = {"jpegtables": frame.jpegtables, "jpegheader": page.jpegheader}
        down, across = (-(-page.imagelength // self._step), -(-page.imagewidth // self.cols))
        parts = []
        for top in range(rows.start, rows.stop, self._step):
            index = (plane * down + top // self._step) * across + cols.start // self.cols
            data = self._segment(offsets[index], counts[index])
            part, _, shape = page.decode(data, index, **known)
            if part is None:  # left out of the file
                part = np.full(shape, page.nodata, page.dtype)
            height, width = min(self._step, rows.stop - top), cols.stop - cols.start
            parts.append(part[0, :height, :width])
        found = np.concatenate(parts)
        return found * np.uint8(255) if found.dtype == bool else found

    def _segment(self, offset: int, count: int) -> bytes | None:
        if not count:
            return None
        data = os.pread(self._handle, count, offset)
        if len(data) < count:
            raise ValueError("it ends within its pixels")
        return data
