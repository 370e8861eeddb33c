"""Extraction: count, plan, write. One Dask task writes one whole chunk of the patch store.

Counting the kept patches of each image fixes where its rows go, so each chunk is a pure function
of a range of images: no two writers share a chunk, a task can be repeated, and a killed run goes
on with the missing chunks.
"""

import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from dask.delayed import delayed
from filelock import FileLock, Timeout

from pipeline.cutting import count_patches, cut_patches
from pipeline.memory import check_budget
from pipeline.progress import Progress, SilentProgress
from pipeline.scheduling import Scheduler
from storage.errors import InputError
from storage.geometry import ChunkPlan, PatchSpec, chunk_rows, plan_chunks, running_sum
from storage.patch_store import (
    PatchStore,
    create_staging,
    finish_staging,
    open_patches,
    store_name,
    write_chunk,
)
from storage.sources import ImageSource, open_images

COUNT_BYTES = 4 << 20  # of images counted by one task


@dataclass(frozen=True)
class Extraction:
    """Where the images come from and what is cut from them; small, and sent to every task."""

    dataset: str
    split: str
    data: Path
    spec: PatchSpec

    def open(self) -> ImageSource:
        """The images, opened once in each process."""
        return open_images(self.dataset, self.split, self.data)


def extract(
    extraction: Extraction,
    out: Path,
    *,
    scheduler: Scheduler | None = None,
    memory: int = 1 << 30,
    progress: Progress | None = None,
) -> tuple[PatchStore, bool]:
    """The patch store of these images, built under `out`/patches unless it is there.

    scheduler: where the tasks run; threads of this process if None.
    memory: cap in bytes on the resident memory of the process tree.
    Returns: the store, and whether it was there already.
    Raises: InputError, IntegrityError, MemoryBudgetError; nothing is left half-written.
    """
    progress, scheduler = progress or SilentProgress(), scheduler or Scheduler()
    images = extraction.open().images
    grid = extraction.spec.grid(*images.shape[1:3])
    source = describe(extraction.open())
    name = store_name(source, extraction.spec)
    path = out / "patches" / f"{name}.zarr"
    if path.exists():
        return open_patches(path), True
    check_budget(
        "extraction",
        projected_bytes(extraction.open(), extraction.spec, scheduler),
        memory,
        scheduler.processes,
    )
    offsets, order = _count(extraction, scheduler, progress)
    if offsets[-1] == 0:
        raise InputError(
            f"threshold {extraction.spec.threshold} keeps none of the"
            f" {len(images) * grid[0] * grid[1]} patches of {source['name']} {source['split']}:"
            " use a lower one"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with _SoleBuilder(path, progress):
        if path.exists():  # another process built it while this one waited
            return open_patches(path), True
        _write(extraction, path, offsets, order, source, scheduler, progress)
    return open_patches(path), False


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


def _count(
    extraction: Extraction, scheduler: Scheduler, progress: Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Returns offsets (images + 1,) and order (images,), both int64, in the store's order."""
    images = extraction.open().images
    step = max(1, COUNT_BYTES // images[0].nbytes)
    starts = range(0, len(images), step)
    progress.start(f"Counting {extraction.split}", len(starts), "blocks")
    tasks = [delayed(_count_block, pure=False)(extraction, start, start + step) for start in starts]
    counts = np.concatenate(scheduler.compute(tasks, lambda: progress.advance(1)))
    progress.finish()
    order = np.random.default_rng(extraction.spec.seed).permutation(len(images))
    return np.asarray(running_sum(counts[order].tolist()), np.int64), order.astype(np.int64)


def _write(
    extraction: Extraction,
    path: Path,
    offsets: np.ndarray,
    order: np.ndarray,
    source: dict[str, Any],
    scheduler: Scheduler,
    progress: Progress,
) -> None:
    staging = path.with_name(path.name + ".partial")
    channels = int(np.prod(source["image_shape"][2:], dtype=int))
    spec = extraction.spec
    present = create_staging(
        staging, spec=spec, source=source, channels=channels, offsets=offsets, order=order
    )
    size = chunk_rows(spec.dim(channels), np.dtype(source["dtype"]).itemsize)
    plans = plan_chunks(offsets.tolist(), size)
    progress.start(f"Writing {extraction.split} patches", len(plans), "chunks")
    progress.advance(len(present))
    tasks = [
        delayed(_write_block, pure=False)(extraction, staging, plan)
        for plan in plans
        if plan.index not in present
    ]
    scheduler.compute(tasks, lambda: progress.advance(1))
    progress.finish()
    finish_staging(staging, path)


def _count_block(extraction: Extraction, start: int, stop: int) -> np.ndarray:
    return count_patches(extraction.open().read(slice(start, stop)), extraction.spec)


def _write_block(extraction: Extraction, staging: Path, plan: ChunkPlan) -> None:
    chosen = extraction.open().read(_order(staging)[plan.first : plan.stop])
    rows = cut_patches(chosen, extraction.spec)[plan.skip : plan.skip + plan.rows]
    write_chunk(staging, plan.index, rows)


@lru_cache(maxsize=2)
def _order(staging: Path) -> np.ndarray:
    """The order of the images, read once in each process; the name fixes the content."""
    return np.asarray(zarr.open_group(staging, mode="r")["order"])


class _SoleBuilder:
    """Holds the lock of one store; says so where it has to wait for another process."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._lock = FileLock(path.with_name(f".{path.name}.lock"))
        self._progress = progress
        self._started = time.monotonic()

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            self._progress.note(f"waiting: another process is building {self._lock.lock_file}")
            self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def projected_bytes(source: ImageSource, spec: PatchSpec, scheduler: Scheduler) -> int:
    """What extraction allocates beside the images, in bytes, at most.

    A chunk in the making for each task at work: its images, window sums, rows, and the rows of
    the images cut at either end. Unpacked images are resident already, mapped ones never are.
    """
    images, dtype = source.images, source.images.dtype
    channels = int(np.prod(images.shape[3:], dtype=int))
    dim = spec.dim(channels)
    down, across = spec.grid(*images.shape[1:3])
    image_rows = down * across * dim * dtype.itemsize
    rows = chunk_rows(dim, dtype.itemsize) * dim * dtype.itemsize + 2 * image_rows
    # Sums take up to 8 bytes a pixel, twice; a chunk may draw on many images with few patches.
    per_task = max(4 * rows, 24 * COUNT_BYTES)
    return scheduler.workers * per_task
