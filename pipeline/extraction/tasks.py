"""What workers run: count the kept patches of some tiles, write one chunk of a store."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.mask import Mask
from pipeline.extraction.patches import allowed_windows, count_patches, cut_patches
from pipeline.extraction.sample import drawn_rows
from storage.errors import InputError, IntegrityError
from storage.images.array_reader import ArrayReader, ListReader
from storage.images.formats.raw import RawReader
from storage.images.options import ImageOptions
from storage.images.pixel_range import PixelRange
from storage.images.source import ImageSource, open_images
from storage.layout import SUMS, source_parts
from storage.patch_spec import CHUNK_BYTES, ChunkPlan, PatchSpec
from storage.patch_writer import read_index, write_chunk
from storage.places.place import Place
from storage.tiles import Tile, TileGrid, extended, read_extended, tile_side, working_bytes

_DECODED = 4  # times a tile, from which on images are unpacked
SLICE_BYTES = 8 << 20  # of images with their sums and patches, in work at once in one task


@dataclass(frozen=True)
class TiledImages:
    """Images, how they are cut, and into which tiles.

    side: as for `TileGrid`. pixels: where the images have been unpacked to; None: as they are.
    known: the range of the pixels, for those who have not read them all.
    """

    source: ImageSource
    spec: PatchSpec
    side: int | None
    pixels: RawReader | None = None
    known: PixelRange | None = None

    @classmethod
    def of(cls, source: ImageSource, spec: PatchSpec) -> "TiledImages":
        """Tiles that fit into memory whatever the images' size."""
        side = tile_side(source.sizes, spec, source.channels, source.dtype.itemsize)
        return cls(source, spec, side)

    @property
    def levels(self) -> PixelRange:
        """What the values of the pixels mean."""
        return self.known or self.source.levels

    @cached_property
    def grid(self) -> TileGrid:
        """The tiles."""
        return TileGrid(self.source.sizes, self.spec, self.side)

    @property
    def better_unpacked(self) -> bool:
        """Whether tiles in any order would decode much of the images again and again."""
        rows, cols = self.grid.largest
        piece = math.prod(self.source.reader.piece)
        return self.side is not None and len(self.source) > 2 and piece > _DECODED * rows * cols

    @property
    def tiles_at_once(self) -> int:
        """Tiles that a task has in work at once."""
        return max(1, SLICE_BYTES // self._tile_bytes)

    @property
    def task_bytes(self) -> int:
        """What one task allocates beside the images, in bytes, at most.

        A chunk's rows, the two copies that compressing takes, and a slice of images in work, with
        what is decoded for it.
        """
        largest_chunk = max(CHUNK_BYTES, self.spec.dim(self.source.channels) * 8)
        unused = self.source.channels_read - self.source.channels
        whole = math.prod(self.grid.largest) * unused * self.source.dtype.itemsize
        work = max(SLICE_BYTES, self._tile_bytes + whole) + 2 * self.source.piece_bytes
        mask = 2 * self.mask.source.piece_bytes if self.mask else 0
        return 3 * largest_chunk + work + mask

    @cached_property
    def _tile_bytes(self) -> int:
        """One tile in work; where pixels may hold no data, with three marks beside its sums."""
        options = self.source.options
        marks = 3 * (options.nodata is not None) + 3 * (options.mask is not None)
        itemsize = self.source.dtype.itemsize + marks
        return working_bytes(self.grid.largest, self.spec, self.source.channels, itemsize)

    @cached_property
    def mask(self) -> Mask | None:
        """Where patches are kept."""
        return Mask.of(self.source)

    def allowed(self, tiles: np.ndarray) -> np.ndarray | None:
        """Windows of tiles of one size that the mask allows; None for all."""
        if self.mask is None:
            return None
        places = [self.grid.locate(int(tile)) for tile in tiles]
        return self.allowed_within(places)

    def allowed_within(self, places: Sequence[Tile]) -> np.ndarray | None:
        """The same of those within parts of images, all of one size."""
        if self.mask is None:
            return None
        parts = [self.mask.window(place, self.spec) for place in places]
        return allowed_windows(np.stack(parts), self.spec.within, self.mask.by)

    def read(self, tiles: np.ndarray, sums: np.ndarray) -> np.ndarray:
        """Pixels of tiles of one size, extended, (n, rows, columns[, channels]).

        Raises: IntegrityError for others than those of these checksums, (n,).
        """
        if self.side is None:
            pixels = extended(self.source.read(self.grid.images_of(tiles)), self.spec)
        else:
            tile = self.grid.locate(int(tiles[0]))
            read = partial((self.pixels or self.source.reader).read, tile.image)
            size = self.source.sizes[tile.image]
            pixels = read_extended(read, size, tile.rows, tile.cols, self.spec)[np.newaxis]
        pixels = np.ascontiguousarray(pixels)
        if [zlib.crc32(tile.data) for tile in pixels] != sums.tolist():
            raise _changed(self.source)
        return pixels

    def sent(self, reference: "ImageReference | None", scheduler: Scheduler) -> Any:
        """As tasks get them: these, or what brings them to another process.

        Raises: InputError for images that cannot be brought there.
        """
        if not scheduler.remote:
            _ = self.mask  # opened once, before threads ask for it
            return self
        if reference:
            return self.referred_to(reference)
        if not isinstance(self.source.reader, ArrayReader | ListReader | RawReader):
            raise InputError(
                "lazy arrays cannot be sent to workers: save them and give the path, or leave out"
                " the scheduler"
            )
        return scheduler.copied(self)

    def referred_to(self, images: "ImageReference") -> "TiledReference":
        """The same for workers, who open the images themselves."""
        sizes, fingerprint = _sizes_sum(self.source), self.source.fingerprint
        return TiledReference(
            images, self.spec, self.side, fingerprint, sizes, self.pixels, self.known
        )


@dataclass(frozen=True)
class ImageReference:
    """Images by what `open_images` is told: small enough to be sent to every worker."""

    dataset: str
    split: str
    data_dir: Place
    options: ImageOptions

    @property
    def paths(self) -> tuple[str, ...]:
        """The file or folder that workers open; of data sets with a name, none."""
        place = source_parts(self.dataset)[0]
        found = Path(place)
        return (place,) if found.is_absolute() and found.exists() else ()


@dataclass(frozen=True)
class TiledReference:
    """The same by what workers find the images: small enough to be sent with every task.

    fingerprint: of the images, for those who had others of the same path open. sizes: checksum.
    """

    images: ImageReference
    spec: PatchSpec
    side: int | None
    fingerprint: str
    sizes: int
    pixels: RawReader | None = None
    known: PixelRange | None = None


Images = TiledImages | TiledReference


def count_block(images: Images, start: int, sums: np.ndarray) -> np.ndarray:
    """Number of kept patches of the tiles from `start` on, as many as checksums, (m,) int64."""
    tiled = _opened(images)
    batches = tiled.grid.batches(np.arange(start, start + len(sums)), tiled.tiles_at_once)
    levels, spec = tiled.levels, tiled.spec.within
    return np.concatenate(
        [
            count_patches(tiled.read(b, sums[b - start]), spec, levels, tiled.allowed(b))
            for b in batches
        ]
    )


def write_block(images: Images, path: Place, plan: ChunkPlan) -> None:
    """Write one chunk of the store that is built, or mended, at `path`."""
    rows = cut_rows(_opened(images), plan, _order(path), _offsets(path), _sums(path))
    write_chunk(path, plan.index, rows)


def cut_rows(
    tiled: TiledImages, plan: ChunkPlan, order: np.ndarray, offsets: np.ndarray, sums: np.ndarray
) -> np.ndarray:
    """The rows of one chunk, (plan.rows, dim).

    order, offsets: as the store has them. sums: (tiles,), of `FirstReading`.
    """
    spec, source = tiled.spec, tiled.source
    rows = np.empty((plan.rows, spec.dim(source.channels)), source.dtype)
    done, skip, place = 0, plan.skip, plan.first
    most = tiled.tiles_at_once if spec.sample is None else 1
    # A chunk may draw on any number of tiles with few patches each.
    for tiles in tiled.grid.batches(order[plan.first : plan.stop], most):
        allowed, levels = tiled.allowed(tiles), tiled.levels
        cut = cut_patches(tiled.read(tiles, sums[tiles]), spec.within, levels, allowed)
        if spec.sample is not None:
            n = int(offsets[place + 1] - offsets[place])
            cut = cut[drawn_rows(int(tiles[0]), len(cut), n, spec.seed)]
        part = cut[skip : skip + plan.rows - done]
        rows[done : done + len(part)] = part
        done, skip, place = done + len(part), 0, place + len(tiles)
    if done != plan.rows:
        raise _changed(source)
    return rows


def _opened(images: Images) -> TiledImages:
    return images if isinstance(images, TiledImages) else _open(images)


@lru_cache(maxsize=1)
def _open(reference: TiledReference) -> TiledImages:
    """The images of a reference, opened once in each worker. Raises: IntegrityError for others."""
    where = reference.images
    source = open_images(where.dataset, where.split, where.data_dir, where.options)
    if _sizes_sum(source) != reference.sizes:  # their tiles would have other numbers
        raise _changed(source)
    return TiledImages(source, reference.spec, reference.side, reference.pixels, reference.known)


def _sizes_sum(source: ImageSource) -> int:
    return zlib.crc32(np.ascontiguousarray(source.sizes).data)


def _changed(source: ImageSource) -> IntegrityError:
    return IntegrityError(
        f"{source.where} changed while patches were cut from it, or is not the same on all workers:"
        " run it again"
    )


@lru_cache(maxsize=2)
def _order(path: Place) -> np.ndarray:
    """The order of the tiles, read once in each process; the name fixes the content."""
    return read_index(path, "order")


@lru_cache(maxsize=2)
def _offsets(path: Place) -> np.ndarray:
    """The row at which each tile's patches start, read as the order is."""
    return read_index(path, "offsets")


@lru_cache(maxsize=2)
def _sums(path: Place) -> np.ndarray:
    """The checksum of each tile's pixels, read as the order is."""
    return np.frombuffer((path / SUMS).read_bytes(), "<u4")
