"""Building codes, or features, of images on disk: once, chunk by chunk, resumed, mended, reused."""

import os
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

from analysis.encoding.pooling import FeatureOptions
from analysis.encoding.staged_codes import StagedCodes
from analysis.encoding.tasks import CodeTask, write_chunk
from analysis.encoding.work import Work
from analysis.experiment import Experiment
from pipeline import Progress, Scheduler, check_budget, fits
from storage import ImageSource, InputError
from storage.atomic import check_folder, exclusive
from storage.codes.code_store import CodeStore, open_codes
from storage.codes.code_writer import (
    begin_again,
    beginning,
    finish,
    remove_beginning,
    take_up,
)
from storage.images.options import identity_of
from storage.layout import BEGUN, STORE_SUFFIX, ExperimentLayout, building_place, lock_place
from storage.places.place import Place, writable
from storage.places.remote import RemotePlace

COMPILER_BYTES = 40 << 20  # of the imports of a worker that labels, beside those that cut


@dataclass(frozen=True)
class CodeBuild:
    """Codes, or features, that are made, or found.

    place: name or path of the images. white: their level of white, if they have another unit than
    those of the dictionary.
    """

    experiment: Experiment
    images: ImageSource
    place: str
    work: Work
    features: FeatureOptions | None
    progress: Progress
    white: float | None = None

    @property
    def usual_place(self) -> Place:
        """Where they are written to, where no other place is told."""
        layout, encoding = ExperimentLayout(self.experiment.folder), self.work.encoding
        images = self.images.name, self.images.split
        stages = len(self.work.stages) if isinstance(self.work, StagedCodes) else 1
        codes = layout.codes(encoding.k, *images, encoding.spec.stride, stages)
        return codes if self.features is None else layout.features(codes, self.features.name)

    def done_at(self, path: Place, address: str, memory: int) -> tuple[CodeStore, int]:
        """The store at a path, and how many of its chunks were written for that."""
        store, damaged = self._found(path)
        if store is not None and not damaged:
            remove_beginning(path)
            return store, 0
        with exclusive(lock_place(path), f"encoding into {path}"):
            store, damaged = self._found(path)  # another process may have been faster
            if store is not None and not damaged:
                return store, 0
            with Scheduler(address, self._room(address, memory), self.progress) as scheduler:
                work = self._fitted(scheduler, memory)
                if scheduler.remote:
                    folder = self.experiment.folder.resolve()  # all stays as it is
                    paths = [] if isinstance(folder, RemotePlace) else [str(folder)]
                    scheduler.preflight(folder=path.parent, paths=paths)
                if store is not None:
                    self.progress.note(f"{path}: writing {len(damaged)} damaged chunks again")
                    begin_again(store, damaged)
                written = self._write(building_place(path), work, scheduler)
            finish(building_place(path), path, work.name)
        return open_codes(path, work.name), written

    def _is_there(self, path: Place) -> bool:
        """Whether something is called so; behind a URL something else than what is begun there."""
        if not isinstance(path, RemotePlace):
            return os.path.lexists(path)
        names = {place.name for place in path.iterdir()}
        return path.is_file() or not names <= {BEGUN, self.work.name, *self.work.coordinates}

    def _found(self, path: Place) -> tuple[CodeStore | None, list[str]]:
        """What is there already, and its damaged chunks. Raises: InputError for others."""
        name = self.work.name
        if not self._is_there(path):
            return None, []
        try:
            store = open_codes(path, name)
        except InputError:
            raise InputError(
                f"{path} is there already, and holds no {name}: move it away, or choose another"
                " name"
            ) from None
        found = store.attributes
        there = _described(store.decoding), identity_of(found["source"]), found.get("white")
        if there != (self.work.facts, identity_of(self.images.describe()), self.white):
            raise InputError(
                f"{path} holds other {name}, of another dictionary, other images or another stride:"
                " move it away, or choose another name (--out)"
            )
        return store, store.damaged()

    def _room(self, address: str, memory: int) -> int:
        """Bytes that tasks of this process share, beside its engine."""
        return memory if address else memory - self.work.engine_bytes

    def _fitted(self, scheduler: Scheduler, memory: int) -> Work:
        """The same with so much in work at once as fits. Raises: MemoryBudgetError."""
        work = self.work
        while True:
            engine = work.engine_bytes
            task = work.task_bytes + 2 * self.images.piece_bytes
            each = COMPILER_BYTES + engine + self.images.resident_bytes
            scheduler.plan(task, each)
            needed = scheduler.needed + (0 if scheduler.remote else engine)
            less = work.smaller()
            if fits(needed, memory) or less is None:
                break
            work = less
        check_budget(f"encoding by K = {work.encoding.k}", needed, memory)
        return work

    def _write(self, staging: Place, work: Work, scheduler: Scheduler) -> int:
        """Write the chunks that are not there yet; how many."""
        from dask.delayed import delayed  # slow to load; codes that are there do without

        attributes = {
            "source": self.images.describe(),
            "dataset": self.place,
            "experiment": str(self.experiment.folder.resolve()),
            **({} if self.white is None else {"white": self.white}),
        }
        array = work.shape, work.chunks, work.dtype
        files = beginning(work.name, array, work.coordinates, work.facts, attributes)
        present = take_up(staging, files, work.name)
        lengths = [-(-n // size) for n, size in zip(work.shape, work.chunks, strict=True)]
        every = list(product(*map(range, lengths)))
        missing = [index for index in every if index not in present]
        self.progress.start(f"Encoding {self.images.split}", len(every), "chunks")
        self.progress.advance(len(every) - len(missing))
        sent = self._task(work) if scheduler.remote else work
        run = f"encode-{uuid4().hex}"
        tasks = [
            delayed(write_chunk)(sent, staging, index, dask_key_name=f"{run}-{number:07}")
            for number, index in enumerate(missing)
        ]
        scheduler.compute(tasks, lambda: self.progress.advance(1))
        self.progress.finish()
        return len(missing)

    def _task(self, work: Work) -> CodeTask:
        """The same for workers, who open images and dictionaries themselves."""
        encoding = work.encoding
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
            encoding.facts["dictionary"],
            self.features,
            work.sums[1:] if isinstance(work, StagedCodes) else (),
            self.white,
        )


def _described(decoding: dict[str, Any]) -> dict[str, Any]:
    """Of the attributes of codes, or features, those that `Work.facts` has."""
    own = ("units", "long_name", "coordinates")
    return {name: value for name, value in decoding.items() if name not in own}


def target(path: Place) -> Place:
    """Where codes, or features, are written to. Raises: InputError where they cannot be."""
    if not isinstance(path, RemotePlace):
        path = Path(os.path.abspath(path))
    if path.suffix != STORE_SUFFIX:
        raise InputError(f"cannot write to {path}: use a name that ends in {STORE_SUFFIX}")
    if isinstance(path, Path):
        check_folder(path)
    return writable(path)
