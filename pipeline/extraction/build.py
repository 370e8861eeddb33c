"""The building of a patch store: examine what is there, plan, write.

Counting the kept patches of each tile fixes where its rows go, so each chunk is a pure function
of a range of tiles: no two writers share a chunk, a task can be repeated, a killed run goes on
with the missing chunks, and damaged chunks of a store are written again in their place.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple, cast
from uuid import uuid4

import numpy as np

from pipeline.execution.scheduler import Scheduler
from pipeline.extraction import tasks
from pipeline.extraction.codec_trial import try_codecs
from pipeline.extraction.first_reading import FirstReading
from pipeline.extraction.sample import placed
from pipeline.extraction.tasks import ImageReference
from pipeline.extraction.unpacking import unpacked
from pipeline.runtime.memory import check_budget
from pipeline.runtime.progress import Progress
from storage.atomic import exclusive, remove
from storage.errors import DamageError, InputError, IntegrityError
from storage.images.formats.raw import RawReader
from storage.images.options import identity_of
from storage.images.source import ImageSource
from storage.layout import (
    PIXELS,
    SUMS,
    building_place,
    is_there,
    lock_place,
    patch_store_path,
    patch_stores,
)
from storage.patch_spec import ChunkPlan, PatchSpec, chunk_rows, plan_chunks
from storage.patch_store import PatchStore, open_patches, store_name, store_name_begins
from storage.patch_writer import (
    TileLayout,
    create_staging,
    finish_staging,
    leftovers,
    remove_half_written,
    remove_leftovers,
    seal_again,
    take_up_staging,
)
from storage.places.place import Place

COUNTING = 0.1  # of the time of writing, about
_MOST_TASKS = 100_000  # of counting: each takes some 0.3 ms and 1 kB of the graph


class Extracted(NamedTuple):
    """What became of an extraction.

    reused: whether the store was there already. repaired: chunks that were damaged and are written
    anew; all of them where the store itself was.
    """

    store: PatchStore
    reused: bool
    repaired: int


@dataclass(frozen=True)
class PatchBuild:
    """Counting and writing as tasks; checking in this process."""

    images: ImageSource
    reference: ImageReference | None
    spec: PatchSpec
    scheduler: Scheduler
    progress: Progress
    memory: int

    def done_under(self, out: Place) -> Extracted:
        """Find the store whole, mend it, or build it."""
        self.check_size()
        split = self.images.split
        self.progress.stage({f"Counting {split}": COUNTING, f"Writing {split} patches": 1})
        begins = store_name_begins(self.images.name, self.images.split, self.spec)
        if not patch_stores(out, begins):  # one that is not to be found need not be looked for
            self.plan()
            _ = self.reading
        path = self.place(out)
        if is_there(path) and self.is_whole(path):
            if leftovers(path):
                with suppress(OSError), self._sole_builder(path):
                    remove_leftovers(path)
            return Extracted(open_patches(path), True, 0)
        self.plan()
        if self.scheduler.remote:
            _ = self.scheduler.client  # one that does not answer leaves nothing half-written
            path.parent.mkdir(parents=True, exist_ok=True)
            paths = self.reference.paths if self.reference else ()
            self.scheduler.preflight(folder=path.parent, paths=paths)
        if is_there(path):
            with self._sole_builder(path):
                return self.mend(path)
        offsets, order = self.count()
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._sole_builder(path):
            if is_there(path):  # another process built it while this one waited
                return Extracted(open_patches(path), True, 0)
            self.write(path, offsets, order)
        return Extracted(open_patches(path), False, 0)

    def place(self, out: Place) -> Place:
        """Where the store lies, or will lie."""
        return patch_store_path(out, store_name(self.source, self.spec, self.tiled.side))

    def check_size(self) -> None:
        """Raise InputError for patches that do not fit into any image."""
        try:
            self.tiled.grid.check_fits()
        except InputError as error:
            if self.images.options.heldout in (None, 1):
                raise
            split = self.images.split
            raise InputError(f"the {split} images are parts (heldout): {error}") from None

    @cached_property
    def tiled(self) -> tasks.TiledImages:
        """The images and their tiles."""
        return tasks.TiledImages.of(self.images, self.spec)

    @cached_property
    def reading(self) -> FirstReading:
        """What is learned of the tiles where all pixels are read; planned before."""
        return FirstReading.of(self.tiled, self.scheduler.at_once, self.progress)

    @cached_property
    def source(self) -> dict[str, Any]:
        """What the store records of its images."""
        return self.images.describe()

    def plan(self) -> None:
        """Fit the tasks into the cap, or raise MemoryBudgetError."""
        sent = 0 if self.reference else getattr(self.images.images, "nbytes", 0)
        in_each = max(sent, self.images.resident_bytes)
        if self.tiled.mask:
            in_each += self.tiled.mask.source.resident_bytes
        self.scheduler.plan(self.tiled.task_bytes, in_each, sent)
        check_budget("extraction", self.scheduler.needed, self.memory)

    def is_whole(self, path: Place) -> bool:
        """Whether a store needs no mending; raises IntegrityError where it is not this one."""
        try:
            return not self._damaged(self._open(path))
        except DamageError:
            return False

    def mend(self, path: Place) -> Extracted:
        """Write again what is damaged in a store."""
        remove_half_written(path)
        try:
            store = self._open(path)
            damaged, offsets = self._damaged(store), store.offsets
        except DamageError as error:
            self.progress.note(f"building anew: {error}")
            self.write(path, *self.count())
            built = open_patches(path)
            return Extracted(built, False, built.n_chunks)
        if damaged:  # or another process mended it while this one waited
            self.progress.note(f"{path}: writing {len(damaged)} damaged chunks again")
            plans = plan_chunks(cast(Sequence[int], offsets), store.chunk_rows)
            pixels = unpacked(self.tiled, path, self.scheduler, self.progress)
            self._write_chunks(path, [plans[index] for index in damaged], pixels)
            self.images.check_mask()
            seal_again(store, damaged)
        return Extracted(open_patches(path), True, len(damaged))

    def _open(self, path: Place) -> PatchStore:
        """The store of that name, checked to be this one; its chunks are not."""
        try:
            store = open_patches(path)
        except InputError as error:
            raise IntegrityError(
                f"{path} is no patch store, but has the name of one: move it away, or choose"
                " another OUT"
            ) from error
        found = identity_of(store.source), store.spec, store.tile
        if found != (identity_of(self.source), self.spec, self.tiled.side):
            raise IntegrityError(
                f"{path} holds patches of another source or spec (fingerprint"
                f" {store.source['fingerprint'][:10]}…, {store.spec.label}) than its name says"
                f" (fingerprint {self.images.fingerprint[:10]}…, {self.spec.label}):"
                " move it away, or choose another OUT"
            )
        return store

    def _damaged(self, store: PatchStore) -> list[int]:
        """Indices of the damaged chunks of patches; raises DamageError where others are."""
        self.progress.start(f"Checking {self.images.split} patches", store.n_chunks, "chunks")
        damaged = []
        for index, fault in enumerate(store.chunk_faults()):
            damaged += [index] if fault else []
            self.progress.advance(1)
        self.progress.finish()
        store.check_index()
        return damaged

    def count(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns offsets (tiles + 1,) and order (tiles,), both int64, in the store's order.

        Raises: InputError when no patch is kept.
        """
        split, spec, grid = self.images.split, self.spec, self.tiled.grid
        if grid.too_small:
            self.progress.note(
                f"{grid.too_small:,} of {len(self.images):,} images are smaller than a patch"
            )
        sums, counts = self.reading.sums, self.reading.counts
        if counts is None:
            step = max(self.tiled.tiles_at_once, len(sums) // _MOST_TASKS)
            blocks = [(first, sums[first : first + step]) for first in range(0, len(sums), step)]
            self.progress.start(f"Counting {split}", len(blocks), "blocks")
            counts = np.concatenate(self._run(tasks.count_block, blocks))
        if not counts.any():
            rule = f"threshold {spec.threshold}" if spec.keep == "nonblank" else f"keep={spec.keep}"
            lower = spec.threshold or spec.keep not in ("nonblank", "all")
            stated = [name for name in ("mask", "nodata") if name in self.images.options.stated()]
            other = " or ".join(stated) or "images, for all patches are blank"
            remedy = "a lower one" if lower else f"{'an' * bool(stated)}other {other}"
            windows = f"{grid.windows} patches of {self.images.name} {split}"
            raise InputError(f"{rule} keeps none of the {windows}: use {remedy}")
        return placed(counts, spec)

    def write(self, path: Place, offsets: np.ndarray, order: np.ndarray) -> None:
        """Write the chunks that are not there yet, and move the whole store to `path`."""
        staging = building_place(path)
        grid = self.tiled.grid
        images = None if grid.one_each else grid.images_of(np.arange(len(grid)))
        layout = TileLayout(offsets, order, self.tiled.side, images)
        begun = take_up_staging(staging, self.spec, self.source, layout)
        present = begun or set()
        plans = [p for p in self.chunk_plans(offsets) if p.index not in present]
        try:
            pixels = unpacked(self.tiled, staging, self.scheduler, self.progress) if plans else None
            if begun is None:  # one that was begun keeps its codec
                tiled = replace(self.tiled, pixels=pixels)
                codec = try_codecs(tiled, order, offsets, self.reading.sums)
                create_staging(staging, self.spec, self.source, layout, codec)
            self._write_chunks(staging, plans, pixels, len(present))
            self.images.check_mask()
        except IntegrityError:
            remove(staging)  # of images that are no more
            raise
        finish_staging(staging, path)

    def chunk_plans(self, offsets: np.ndarray) -> list[ChunkPlan]:
        """What each chunk holds; offsets: as `count` returns them."""
        size = chunk_rows(self.spec.dim(self.images.channels), self.images.dtype.itemsize)
        return plan_chunks(cast(Sequence[int], offsets), size)

    def _write_chunks(
        self, path: Place, plans: Sequence[ChunkPlan], pixels: RawReader | None, present: int = 0
    ) -> None:
        """Write chunks of the store in this folder; `present` others are there."""
        # not tofile, which leaves a part of it on a full disk and says nothing
        (path / SUMS).write_bytes(self.reading.sums.astype("<u4").tobytes())
        label, total = f"Writing {self.images.split} patches", len(plans) + present
        self.progress.start(label, total, "chunks")
        self.progress.advance(present)
        try:
            self._run(tasks.write_block, [(path, plan) for plan in plans], pixels)
        finally:
            for made in (path / PIXELS, path / SUMS, *([pixels.path] if pixels else [])):
                made.unlink(missing_ok=True)

    def _run(
        self,
        task: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        pixels: RawReader | None = None,
    ) -> list[Any]:
        """Results of a task that gets the images, as they are or unpacked, and these arguments."""
        from dask.delayed import delayed  # slow to load; a store that is whole does without

        tiled = replace(self.tiled, pixels=pixels, known=self.images.levels)
        images = tiled.sent(self.reference, self.scheduler)
        # Dask takes tasks in the order of their names: neighbours share what is decoded.
        run = f"{task.__name__}-{uuid4().hex}"
        given = [
            delayed(task)(images, *call, dask_key_name=f"{run}-{number:07}")
            for number, call in enumerate(calls)
        ]
        found = self.scheduler.compute(given, lambda: self.progress.advance(1))
        self.progress.finish()
        return found

    def _sole_builder(self, path: Place) -> AbstractContextManager[None]:
        """Holds the lock of one store; says so where it has to wait for another process."""
        return exclusive(lock_place(path), f"building {path}", wait=self.progress.note)
