"""Codes of all images of an experiment, or of others, on disk: built once, resumed, reused."""

import os
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from analysis.encoding.encoding import LEAST_POSITIONS, Encoding
from analysis.encoding.tasks import CodeTask, write_chunk
from analysis.experiment import Experiment, open_experiment
from analysis.experiment_folders import only_experiment
from analysis.text import count
from pipeline import (
    USUAL_MEMORY,
    PatchOptions,
    Progress,
    Scheduler,
    SilentProgress,
    check_budget,
    fits,
)
from storage import ImageOptions, ImageSource, InputError, open_images
from storage.atomic import exclusive
from storage.codes.code_store import CodeStore, open_codes
from storage.codes.code_writer import begin_again, beginning, finish, take_up
from storage.images.datasets import splits_of
from storage.images.formats.registry import has_layout
from storage.images.options import identity_of
from storage.layout import STORE_SUFFIX, ExperimentLayout, building_place, lock_place

COMPILER_BYTES = 40 << 20  # of the imports of a worker that labels, beside those that cut


def encode_set(
    folder: Path,
    k: int,
    *,
    split: str | None = None,
    dataset: str | None = None,
    stride: int | None = None,
    out: Path | None = None,
    data: Path | None = None,
    scheduler: str = "",
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write the codes of all images of a split, or of other images, unless they are there.

    A run that was killed is gone on with; damaged chunks are written anew.

    Args:
        folder: of the experiment, or a sweep's OUT that holds only one.
        k: size of the dictionary.
        split: "train" or "test"; None: test images where there are any.
        dataset: name or path of other images; None: those of the experiment.
        stride: step between patches in pixels; None: the dictionary's own.
        out: where the codes are written, a name that ends in .zarr; None: beside the dictionaries.
        data: folder of downloads; None: the one that the sweep used.
        scheduler: where chunks are made: "" (threads), "processes:N", or an address of Dask.
        memory: cap in bytes on the resident memory of the process tree.
        progress: an observer, or None.

    Returns:
        Plain JSON: codes (path), k, dataset, split, images, rows and cols (positions of each),
        stride, dtype, no_code, bytes (on disk, of the codes), chunks (written now), seconds,
        reused.

    Raises: InputError: something is not there, or does not fit, or `out` holds something else;
        IntegrityError: images or dictionaries are damaged; MemoryBudgetError: no part of an image
        fits under the cap; BusyError: another process is making the same codes.
    """
    started, progress = time.perf_counter(), progress or SilentProgress()
    experiment = open_experiment(only_experiment(folder), data)
    node = experiment.dictionary(k)
    images, place = _images(experiment, split, dataset)
    encoding = Encoding.of(images, node, stride=stride)
    if dataset is not None:
        _check_reach(images, encoding)
    layout = ExperimentLayout(experiment.folder)
    path = out or layout.codes(k, images.name, images.split, encoding.spec.stride)
    build = _CodeBuild(experiment, images, place, encoding, progress)
    store, written = build.done_at(_target(path), scheduler, memory)
    return _told(images, encoding, store) | {
        "chunks": written,
        "seconds": time.perf_counter() - started,
        "reused": not written,
    }


def _told(images: ImageSource, encoding: Encoding, store: CodeStore) -> dict[str, Any]:
    """What `encode_set` tells of codes that are there."""
    return {
        "codes": str(store.path),
        "k": encoding.k,
        "dataset": images.name,
        "split": images.split,
        **dict(zip(("images", "rows", "cols"), encoding.shape, strict=True)),
        "stride": encoding.spec.stride,
        "dtype": encoding.dtype.name,
        "no_code": encoding.decoding["no_code"],
        "bytes": store.stored_bytes,
    }


def _images(
    experiment: Experiment, split: str | None, dataset: str | None
) -> tuple[ImageSource, str]:
    """The images, and where they are."""
    if dataset is None:
        split = experiment.checked_split(split)
        return experiment.images(split), experiment.place(split)
    stated = ImageOptions.of_source(experiment.facts["source"])
    place = PatchOptions.checked(dataset=dataset).dataset  # as a sweep finds it
    layout = stated.layout  # one of single images tells nothing of stacks
    plain = ImageOptions(
        layout=layout if layout and "N" in layout and has_layout(place) else None,
        white=stated.white,
        nodata=stated.nodata,
        channels=stated.channels,
    )
    return open_images(place, split or splits_of(place)[-1], experiment.data, plain), place


def _check_reach(images: ImageSource, encoding: Encoding) -> None:
    """Raise InputError where the pixels have another range than the dictionary's images."""

    def seen(_first: int, _top: int, block: np.ndarray) -> None:
        encoding.unit.brought(block)  # which only looks at them

    images.examine(seen)
    encoding.unit.check_reach()


def _target(path: Path) -> Path:
    """Where codes are written to. Raises: InputError where they cannot be."""
    path = Path(os.path.abspath(path))
    if path.suffix != STORE_SUFFIX:
        raise InputError(f"cannot write codes to {path}: use a name that ends in {STORE_SUFFIX}")
    if not path.parent.is_dir():
        raise InputError(f"no folder {path.parent} to write {path.name} into: make it first")
    return path


@dataclass(frozen=True)
class _CodeBuild:
    """Codes that are made, or found. place: name or path of the images."""

    experiment: Experiment
    images: ImageSource
    place: str
    encoding: Encoding
    progress: Progress

    def done_at(self, path: Path, address: str, memory: int) -> tuple[CodeStore, int]:
        """The store at a path, and how many of its chunks were written for that."""
        store, damaged = self._found(path)
        if store is not None and not damaged:
            return store, 0
        with exclusive(lock_place(path), f"encoding into {path}"):
            store, damaged = self._found(path)  # another process may have been faster
            if store is not None and not damaged:
                return store, 0
            with Scheduler(address, self._room(address, memory)) as scheduler:
                encoding = self._fitted(scheduler, memory)
                if scheduler.remote:
                    _ = scheduler.client  # one that does not answer leaves all as it is
                if store is not None:
                    self.progress.note(f"{path}: writing {len(damaged)} damaged chunks again")
                    begin_again(store, damaged)
                written = self._write(building_place(path), encoding, scheduler)
            finish(building_place(path), path)
        return open_codes(path), written

    def _found(self, path: Path) -> tuple[CodeStore | None, list[str]]:
        """What is there already, and its damaged chunks. Raises: InputError for other codes."""
        if not os.path.lexists(path):
            return None, []
        try:
            store = open_codes(path)
        except InputError:
            raise InputError(
                f"{path} is there already, and holds no codes: move it away, or choose another name"
            ) from None
        wanted = self.encoding.decoding, identity_of(self.images.describe())
        if (_described(store.decoding), identity_of(store.attributes["source"])) != wanted:
            raise InputError(
                f"{path} holds other codes, of another dictionary, other images or another stride:"
                " move it away, or choose another name (--out)"
            )
        return store, store.damaged()

    def _room(self, address: str, memory: int) -> int:
        """Bytes that tasks of this process share, beside its engine."""
        return memory if address else memory - self.encoding.engine_bytes

    def _fitted(self, scheduler: Scheduler, memory: int) -> Encoding:
        """The encoding with so much in work at once as fits. Raises: MemoryBudgetError."""
        encoding = self.encoding
        while True:
            engine = encoding.engine_bytes
            task = encoding.task_bytes + 2 * self.images.piece_bytes
            each = COMPILER_BYTES + engine + self.images.resident_bytes
            scheduler.plan(task, each)
            needed = scheduler.needed + (0 if scheduler.remote else engine)
            if fits(needed, memory) or encoding.most <= LEAST_POSITIONS:
                break
            encoding = replace(encoding, most=encoding.most // 2)
        check_budget(f"encoding by K = {encoding.k}", needed, memory)
        return encoding

    def _write(self, staging: Path, encoding: Encoding, scheduler: Scheduler) -> int:
        """Write the chunks that are not there yet; how many."""
        from dask.delayed import delayed  # slow to load; codes that are there do without

        attributes = {
            "source": self.images.describe(),
            "dataset": self.place,
            "experiment": str(self.experiment.folder.resolve()),
        }
        kind = encoding.shape, encoding.chunks, encoding.dtype
        present = take_up(staging, beginning(kind, encoding.origins, encoding.decoding, attributes))
        lengths = [-(-n // size) for n, size in zip(encoding.shape, encoding.chunks, strict=True)]
        every = list(product(*map(range, lengths)))
        missing = [index for index in every if index not in present]
        self.progress.start(f"Encoding {self.images.split}", len(every), "chunks")
        self.progress.advance(len(every) - len(missing))
        sent = self._task(encoding) if scheduler.remote else encoding
        run = f"encode-{uuid4().hex}"
        tasks = [
            delayed(write_chunk)(sent, staging, index, dask_key_name=f"{run}-{number:07}")
            for number, index in enumerate(missing)
        ]
        scheduler.compute(tasks, lambda: self.progress.advance(1))
        self.progress.finish()
        return len(missing)

    def _task(self, encoding: Encoding) -> CodeTask:
        """The same for workers, who open images and dictionary themselves."""
        return CodeTask(
            self.experiment.folder.resolve(),
            encoding.k,
            encoding.spec.stride,
            encoding.most,
            encoding.chunk,
            self.place,
            self.images.split,
            self.experiment.data.resolve(),
            replace(self.images.options, labels=None),
            (encoding.images.shape, encoding.images.dtype.name),
            self.images.fingerprint,
            encoding.decoding["dictionary"],
        )


def _described(decoding: dict[str, Any]) -> dict[str, Any]:
    """Of the attributes of codes those that `Encoding.decoding` has."""
    return {name: value for name, value in decoding.items() if name not in ("units", "long_name")}


def in_words(result: dict[str, Any]) -> str:
    """The result of `encode_set` for people."""
    positions = result["images"] * result["rows"] * result["cols"]
    done = "are there already" if result["reused"] else f"made in {result['seconds']:.1f} s"
    return (
        f"{result['codes']}\n{count(result['images'], 'image')}, {positions:,} positions at stride"
        f" {result['stride']}, K = {result['k']}: {result['bytes']:,} bytes, {done}"
    )
