"""Extraction: count, plan, write. One Dask task writes one whole chunk of the patch store.

Counting the kept patches of each image fixes where its rows go, so each chunk is a pure function
of a range of images: no two writers share a chunk, a task can be repeated, a killed run goes on
with the missing chunks, and damaged chunks of a store are written again in their place.
"""

import math
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from dask.delayed import delayed

from pipeline.config import USUAL_MEMORY
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.patches import count_patches, cut_patches
from pipeline.runtime.memory import check_budget
from pipeline.runtime.progress import Progress, SilentProgress
from storage.atomic import exclusive
from storage.errors import DamageError, InputError, IntegrityError
from storage.images.source import ImageSource, open_images
from storage.layout import building_place, lock_place, patch_store_path
from storage.patch_spec import CHUNK_BYTES, ChunkPlan, PatchSpec, chunk_rows, plan_chunks
from storage.patch_store import PatchStore, open_patches, store_name
from storage.patch_writer import (
    create_staging,
    finish_staging,
    leftovers,
    read_order,
    remove_half_written,
    remove_leftovers,
    seal_again,
    write_chunk,
)

SLICE_BYTES = 8 << 20  # of images with their sums and patches, in work at once in one task


@dataclass(frozen=True)
class Extraction:
    """Where the images come from and what is cut from them; small, and sent to every task."""

    dataset: str
    split: str
    data: Path
    spec: PatchSpec


class Extracted(NamedTuple):
    """What became of an extraction.

    reused: whether the store was there already. repaired: chunks that were damaged and are written
    anew; all of them where the store itself was.
    """

    store: PatchStore
    reused: bool
    repaired: int


# The images of the extraction at work, opened once in each process; told by their fingerprint,
# for a file may change between one extraction and the next.
_opened: dict[tuple[Extraction, str], ImageSource] = {}


def extract(
    extraction: Extraction,
    out: Path,
    *,
    scheduler: Scheduler | None = None,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> Extracted:
    """The patch store of these images, built under `out`/patches unless it is there.

    Every chunk of one that is there is checked, and those that are damaged are written again; where
    its metadata are, all of it is.

    scheduler: where the tasks run; threads of this process if None.
    memory: cap in bytes on the resident memory of the process tree.
    Raises: InputError, MemoryBudgetError; IntegrityError where something else, whole or unfinished,
        has the store's name; nothing is left half-written.
    """
    progress, scheduler = progress or SilentProgress(), scheduler or Scheduler(memory=memory)
    images = open_images(extraction.dataset, extraction.split, extraction.data)
    extraction.spec.grid(*images.images.shape[1:3])  # refuses patches that do not fit
    source = describe(images)
    path = patch_store_path(out, store_name(source, extraction.spec))
    work = _Work(extraction, source, scheduler, progress, memory)
    if path.exists() and work.is_whole(path):
        if leftovers(path):
            with suppress(OSError), _sole_builder(path, progress):
                remove_leftovers(path)
        return Extracted(open_patches(path), True, 0)
    _opened[extraction, images.fingerprint] = images
    try:
        work.plan(images)
        if path.exists():
            with _sole_builder(path, progress):
                return work.mend(path)
        offsets, order = work.count()
        path.parent.mkdir(parents=True, exist_ok=True)
        with _sole_builder(path, progress):
            if path.exists():  # another process built it while this one waited
                return Extracted(open_patches(path), True, 0)
            work.write(path, offsets, order)
    finally:
        _opened.clear()  # the images count as memory
    return Extracted(open_patches(path), False, 0)


def describe(source: ImageSource) -> dict[str, Any]:
    """What a store records of its images: plain JSON."""
    return {
        "name": source.name,
        "split": source.split,
        "images": len(source.images),
        "image_shape": list(source.images.shape[1:]),
        "dtype": source.images.dtype.name,
        "fingerprint": source.fingerprint,
    }


def task_bytes(source: ImageSource, spec: PatchSpec) -> int:
    """What one task allocates beside the images, in bytes, at most.

    A chunk's rows, the two copies that compressing takes, and a slice of images in work. Unpacked
    images are resident already, mapped ones never are.
    """
    one_image = _image_bytes(source.images, spec)
    largest_chunk = max(CHUNK_BYTES, spec.dim(_channels(source.images)) * 8)
    return 3 * largest_chunk + max(SLICE_BYTES, one_image)


def resident_bytes(source: ImageSource) -> int:
    """What the images take in each process that opens them, in bytes; mapped ones nothing."""
    images = source.images
    return 0 if isinstance(images, np.memmap) else images.nbytes


def _channels(images: np.ndarray) -> int:
    return math.prod(images.shape[3:])


def _image_bytes(images: np.ndarray, spec: PatchSpec) -> int:
    """Pixels, three arrays of sums of up to 8 bytes, and all patches of one image."""
    pixels, itemsize = math.prod(images.shape[1:]), images.dtype.itemsize
    down, across = spec.grid(*images.shape[1:3])
    return pixels * (itemsize + 24) + down * across * spec.dim(_channels(images)) * itemsize


def _slice_images(images: np.ndarray, spec: PatchSpec) -> int:
    return max(1, SLICE_BYTES // _image_bytes(images, spec))


@dataclass(frozen=True)
class _Work:
    """Counting and writing as Dask tasks; checking in this process."""

    extraction: Extraction
    source: dict[str, Any]
    scheduler: Scheduler
    progress: Progress
    memory: int

    def plan(self, images: ImageSource) -> None:
        """Fit the tasks into the cap, or raise MemoryBudgetError."""
        self.scheduler.plan(task_bytes(images, self.extraction.spec), resident_bytes(images))
        check_budget("extraction", self.scheduler.needed, self.memory)

    def is_whole(self, path: Path) -> bool:
        """Whether a store needs no mending; raises IntegrityError where it is not this one."""
        try:
            return not self._damaged(self._open(path))
        except DamageError:
            return False

    def mend(self, path: Path) -> Extracted:
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
            self._write_chunks(path, [plans[index] for index in damaged])
            self._refuse_change()
            seal_again(store, damaged)
        return Extracted(open_patches(path), True, len(damaged))

    def _open(self, path: Path) -> PatchStore:
        """The store of that name, checked to be this one; its chunks are not."""
        try:
            store = open_patches(path)
        except InputError as error:
            raise IntegrityError(
                f"{path} is no patch store, but has the name of one: move it away, or choose"
                " another OUT"
            ) from error
        if (store.source, store.spec) != (self.source, self.extraction.spec):
            raise IntegrityError(
                f"{path} holds patches of another source or spec (fingerprint"
                f" {store.source['fingerprint'][:10]}…, {store.spec.label}) than its name says"
                f" (fingerprint {self._fingerprint[:10]}…, {self.extraction.spec.label}):"
                " move it away, or choose another OUT"
            )
        return store

    def _damaged(self, store: PatchStore) -> list[int]:
        """Indices of the damaged chunks of patches; raises DamageError where others are."""
        self.progress.start(f"Checking {self.extraction.split} patches", store.n_chunks, "chunks")
        damaged = []
        for index in range(store.n_chunks):
            if store.fault(store.chunk_key(index)):
                damaged.append(index)
            self.progress.advance(1)
        self.progress.finish()
        store.check_index()
        return damaged

    def count(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns offsets (images + 1,) and order (images,), both int64, in the store's order.

        Raises: InputError when no patch is kept.
        """
        name, spec, fingerprint = self.extraction.split, self.extraction.spec, self._fingerprint
        images = _images(self.extraction, fingerprint).images
        step = _slice_images(images, spec)
        starts = range(0, len(images), step)
        self.progress.start(f"Counting {name}", len(starts), "blocks")
        tasks = [
            delayed(_count_block, pure=False)(self.extraction, fingerprint, start, start + step)
            for start in starts
        ]
        counts = np.concatenate(self.scheduler.compute(tasks, lambda: self.progress.advance(1)))
        self.progress.finish()
        if not counts.any():
            windows = len(images) * math.prod(spec.grid(*images.shape[1:3]))
            raise InputError(
                f"threshold {spec.threshold} keeps none of the {windows} patches of"
                f" {self.source['name']} {name}: use "
                + ("a lower one" if spec.threshold else "other images, for all patches are blank")
            )
        order = np.random.default_rng(spec.seed).permutation(len(images)).astype(np.int64)
        offsets = np.zeros(len(images) + 1, np.int64)
        np.cumsum(counts[order], out=offsets[1:])
        return offsets, order

    def write(self, path: Path, offsets: np.ndarray, order: np.ndarray) -> None:
        """Write the chunks that are not there yet, and move the whole store to `path`."""
        spec, staging = self.extraction.spec, building_place(path)
        channels = math.prod(self.source["image_shape"][2:])
        present = create_staging(
            staging, spec=spec, source=self.source, channels=channels, offsets=offsets, order=order
        )
        size = chunk_rows(spec.dim(channels), np.dtype(self.source["dtype"]).itemsize)
        plans = plan_chunks(cast(Sequence[int], offsets), size)
        self._write_chunks(staging, [p for p in plans if p.index not in present], len(present))
        try:
            self._refuse_change()
        except IntegrityError:
            shutil.rmtree(staging)  # chunks of both
            raise
        finish_staging(staging, path)

    def _refuse_change(self) -> None:
        """Raise IntegrityError where the images, which may be mapped from disk, have changed."""
        images = _images(self.extraction, self._fingerprint)
        now = ImageSource(images.name, images.split, images.images).fingerprint
        if now != self._fingerprint:
            raise IntegrityError(
                f"{self.extraction.dataset} changed while patches were cut from it (SHA-256"
                f" {now[:10]}… where {self._fingerprint[:10]}… was): run it again"
            )

    def _write_chunks(self, path: Path, plans: Sequence[ChunkPlan], present: int = 0) -> None:
        """Write chunks of the store in this folder; `present` others are there."""
        total = len(plans) + present
        self.progress.start(f"Writing {self.extraction.split} patches", total, "chunks")
        self.progress.advance(present)
        tasks = [
            delayed(_write_block, pure=False)(self.extraction, self._fingerprint, path, plan)
            for plan in plans
        ]
        self.scheduler.compute(tasks, lambda: self.progress.advance(1))
        self.progress.finish()

    @property
    def _fingerprint(self) -> str:
        return str(self.source["fingerprint"])


def _images(extraction: Extraction, fingerprint: str) -> ImageSource:
    """The images, opened once in each process and checked to be those that were planned for."""
    found = _opened.get((extraction, fingerprint))
    if found is None:
        found = open_images(extraction.dataset, extraction.split, extraction.data)
        if found.fingerprint != fingerprint:
            raise IntegrityError(
                f"{extraction.dataset} is not the same on all workers, or changed: run it again"
            )
        _opened.clear()
        _opened[extraction, fingerprint] = found
    return found


def _count_block(extraction: Extraction, fingerprint: str, start: int, stop: int) -> np.ndarray:
    images = _images(extraction, fingerprint).read(slice(start, stop))
    return count_patches(images, extraction.spec)


def _write_block(extraction: Extraction, fingerprint: str, path: Path, plan: ChunkPlan) -> None:
    source, spec = _images(extraction, fingerprint), extraction.spec
    order, step = _order(path), _slice_images(source.images, spec)
    dim = spec.dim(_channels(source.images))
    rows = np.empty((plan.rows, dim), source.images.dtype.newbyteorder("="))
    done, skip = 0, plan.skip
    # A chunk may draw on any number of images with few patches each.
    for first in range(plan.first, plan.stop, step):
        chosen = source.read(order[first : min(first + step, plan.stop)])
        cut = cut_patches(chosen, spec)[skip : skip + plan.rows - done]
        rows[done : done + len(cut)] = cut
        done, skip = done + len(cut), 0
    write_chunk(path, plan.index, rows)


@lru_cache(maxsize=2)
def _order(path: Path) -> np.ndarray:
    """The order of the images, read once in each process; the name fixes the content."""
    return read_order(path)


def _sole_builder(path: Path, progress: Progress) -> AbstractContextManager[None]:
    """Holds the lock of one store; says so where it has to wait for another process."""
    return exclusive(lock_place(path), f"building {path}", wait=progress.note)
