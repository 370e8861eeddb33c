"""Residual stages: each dictionary is learned on what those before it leave of the rows.

Multi-stage vector quantisation (Juang & Gray 1982): S dictionaries of K centroids name K^S sums.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.config import USUAL_MEMORY, SweepOptions
from pipeline.experiment import Experiment
from pipeline.kmeans.compilation import compile_apart
from pipeline.option_values import named_today
from pipeline.rows.residuals import ResidualRows
from pipeline.rows.source import RowSource, RowTransform, StoreSource, read_ahead
from pipeline.runtime.devices import CPU
from pipeline.runtime.progress import Progress, SilentProgress
from storage.codes.code_store import code_dtype
from storage.dictionary_store import (
    check_dictionaries,
    dictionary_sum,
    finished_dictionaries,
    is_preprocessed,
    read_centroids,
    read_preprocessing,
    root_attributes,
)
from storage.errors import InputError
from storage.integrity import SEALING
from storage.layout import ExperimentLayout
from storage.mapped_files import lies_in_memory, scratch_array, scratch_folder
from storage.patch_store import PatchStore
from storage.places.place import Place

_STORE_S_OWN = ("kind", "schema", "complete", *SEALING)  # attributes that a tree writes by itself


def learn_stages(
    folder: Place,
    k: int,
    stages: int,
    stores: Mapping[str, PatchStore],
    *,
    memory: int = USUAL_MEMORY,
    progress: Progress | None = None,
) -> list[int]:
    """Learn the later stages of a dictionary that are not there, with its experiment's options.

    Each has K centroids too, and lies in a folder within the experiment's, in a tree of its own.
    They are learned in this process, on the CPU; after a kill the same call goes on.

    Args:
        folder: of the experiment, whose dictionary of k centroids is the first stage.
        k: its size.
        stages: how many there shall be, the first included.
        stores: by split the patches of the experiment: train, and test where there are any.
        memory: cap in bytes on the resident memory of the process.
        progress: an observer, or None.

    Returns:
        Numbers of the stages that were learned now.

    Raises: InputError: what a stage leaves has fewer than k distinct rows; IntegrityError: stages
        that follow on another dictionary, or damaged ones; MemoryBudgetError; BusyError: another
        process learns the same.
    """
    layout, progress, learned = ExperimentLayout(folder), progress or SilentProgress(), []
    root = root_attributes(layout.dictionaries)
    facts = {name: value for name, value in root.items() if name not in _STORE_S_OWN}
    fit = named_today(facts["fit"])
    scratch = folder if isinstance(folder, Path) else scratch_folder()
    rows = _Residuals(scratch, stores, _preprocessing(layout, k), progress)
    earlier = [read_centroids(layout.dictionaries, k)[0]]
    for number in range(2, stages + 1):
        options = SweepOptions.checked(**fit, k=(k,), memory=memory)
        stage = Stage(options, stores["train"], stores.get("test"), layout, facts, earlier, rows)
        path = stage.layout.dictionaries
        check_dictionaries(path, stage.describe())
        if k not in finished_dictionaries(path):
            stage.learn(progress)
            learned.append(number)
        earlier = [*earlier, read_centroids(path, k)[0]]
    return learned


@dataclass(frozen=True)
class Stage(Experiment):
    """A later stage, as an experiment of one dictionary.

    first: layout of the experiment that it belongs to. facts: what that one's store records.
    earlier: centroids of the stages before, (k, *patch_shape) each. residuals: what they leave.
    """

    first: ExperimentLayout
    facts: dict[str, Any]
    earlier: list[np.ndarray]
    residuals: "_Residuals"

    @property
    def number(self) -> int:
        """Of the stage, from 2 on."""
        return len(self.earlier) + 1

    @property
    def sums(self) -> dict[str, str]:
        """By the number of each stage before the SHA-256 of its centroids."""
        sums = map(dictionary_sum, self.earlier)
        return {str(number): found for number, found in enumerate(sums, 1)}

    @property
    def digest(self) -> str:
        made_of = json.dumps([self.facts["digest"], self.sums], sort_keys=True)
        return hashlib.sha256(made_of.encode()).hexdigest()[:8]

    @property
    def folder(self) -> Place:
        return self.first.stage(self.options.k[0], self.number).folder

    def rows(self, split: str, transform: RowTransform | None = None) -> RowSource | None:
        return self.residuals.after(self.earlier).get(split)  # of rows that are transformed already

    @property
    def preprocessed_like(self) -> Place:
        return self.first.dictionaries

    def stages(self, centroids: np.ndarray) -> list[np.ndarray]:
        return [*(one.reshape(len(one), -1) for one in self.earlier), centroids]

    def describe(self) -> dict[str, Any]:
        return self.facts | {"digest": self.digest, "residual_of": self.sums}

    def _scoring_bytes(self) -> int:
        """What the stages before take while preprocessed patches are scored in pixels."""
        from pipeline.engines.nearest import NearestCentroids  # loads numba

        source = self.residuals.after([])["train"]
        given = source.dim, source.block_rows
        return sum(
            NearestCentroids.projected_bytes(len(one), *given, dtype=source.dtype, device="cpu")
            for one in (self.earlier if self.options.preprocess != "none" else ())
        )

    def learn(self, progress: Progress) -> None:
        """Learn it; see `learn_stages`."""
        dtype, memory = np.dtype(np.float32), int(self.options.memory)
        compile_apart(self.options, dtype, memory, progress)
        from pipeline.dictionaries import learn_dictionaries  # loads numba, which takes a second
        from pipeline.engines import EngineSpec
        from pipeline.execution.scheduler import Scheduler

        progress.note(f"stage {self.number} of K = {self.options.k[0]}, of what is left before")
        self.residuals.after(self.earlier)  # labels of the stages before
        left = max(1, memory - self.residuals.bytes_in_memory - self._scoring_bytes())
        capped = replace(self, options=self.options.model_copy(update={"memory": left}))
        engine = EngineSpec.resolve("auto", CPU, self.train.dim, dtype)
        try:
            learn_dictionaries(capped, [*self.options.k], engine, Scheduler(), progress)
        except InputError as error:
            raise InputError(f"there is no stage {self.number}, of what is left: {error}") from None


def _preprocessing(layout: ExperimentLayout, k: int) -> RowTransform | None:
    """That of the first stage; None where there is none."""
    attributes, arrays = read_preprocessing(layout.dictionaries, k)
    if not is_preprocessed(attributes):
        return None
    from pipeline.preprocessing import Preprocessing  # loads numba

    return Preprocessing.stored(attributes, arrays)


class _Residuals:
    """What stages leave of the rows of each split; labels are found when they are needed, once.

    folder: for labels, in scratch files without names, 2 or 4 bytes of each row and stage.
    transform: of patches, before they meet the first stage; None: they stay.
    """

    def __init__(
        self,
        folder: Path,
        stores: Mapping[str, PatchStore],
        transform: RowTransform | None,
        progress: Progress,
    ) -> None:
        self._folder, self._progress = folder, progress
        self._left: list[dict[str, RowSource]] = [
            {split: StoreSource(store, transform) for split, store in stores.items()}
        ]

    def after(self, centroids: list[np.ndarray]) -> dict[str, RowSource]:
        """By split what these stages leave; what fewer of them left is known from before."""
        while len(self._left) <= len(centroids):
            last = centroids[len(self._left) - 1]
            flat = last.reshape(len(last), -1)
            self._left.append(
                {
                    split: ResidualRows(source, flat, self._labels(split, source, flat))
                    for split, source in self._left[-1].items()
                }
            )
        return self._left[len(centroids)]

    @property
    def bytes_in_memory(self) -> int:
        """What labels take of the memory: nothing, but where files lie in it."""
        if not lies_in_memory(self._folder):
            return 0
        return sum(4 * source.n_rows for left in self._left[1:] for source in left.values())

    def _labels(self, split: str, source: RowSource, centroids: np.ndarray) -> np.ndarray:
        """The nearest centroid of each row."""
        from pipeline.engines.nearest import NearestCentroids  # loads numba

        nearest = NearestCentroids(centroids, source.dtype, device="cpu")
        dtype = code_dtype(len(centroids))
        step = f"Stage {len(self._left)}, {split}"

        def write(file: BinaryIO) -> None:
            with closing(read_ahead(source)) as blocks:
                for block in blocks:
                    file.write(nearest.label(block).astype(dtype).data)
                    self._progress.advance(len(block))

        self._progress.start(step, source.n_rows, "rows")
        labels = scratch_array(write, dtype, (source.n_rows,), folder=self._folder)
        self._progress.finish()
        return labels
