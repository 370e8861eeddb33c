"""An experiment: the stores that a sweep works on, and the name that tells it from others."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import SweepOptions
from pipeline.rows.source import RowSource, RowTransform, StoreSource
from storage.atomic import exclusive, remove
from storage.layout import ExperimentLayout, state_size
from storage.patch_store import PatchStore
from storage.places.place import Place


@dataclass(frozen=True)
class Experiment:
    """Patches, held-out patches if any, and how their dictionaries are learned.

    options: of the sweep. train, test: the stores.
    """

    options: SweepOptions
    train: PatchStore
    test: PatchStore | None

    @property
    def digest(self) -> str:
        """Hash of all that the dictionaries' numbers depend on, beside K."""
        return self.options.digest(self.train.name, self.test.name if self.test else "")

    @property
    def folder(self) -> Place:
        """`OUT`/NAME, as in runs/mnist-5x5-s1-t0-full-1a2b3c4d."""
        name = f"{self.train.source['name']}-{self.train.spec.label}-{self.options.mode}"
        return self.options.out / f"{name}-{self.digest}"

    @property
    def scratch(self) -> Path | None:
        """Where its scratch files lie: its folder; None: behind a URL, see `scratch_folder`."""
        return self.folder if isinstance(self.folder, Path) else None

    @property
    def layout(self) -> ExperimentLayout:
        """Where its files lie."""
        return ExperimentLayout(self.folder)

    @property
    def heldout_rows(self) -> int:
        """Rows of the held-out patches; 0 for none."""
        return self.test.n_rows if self.test else 0

    def rows(self, split: str, transform: RowTransform | None = None) -> RowSource | None:
        """Those that are learned from, or those that are held out; None: there are none.

        transform: of each row; None: they stay.
        """
        store = self.train if split == "train" else self.test
        return None if store is None else StoreSource(store, transform)

    def owned(self) -> AbstractContextManager[None]:
        """Nobody else sweeps into it; raises BusyError where another does already."""
        return exclusive(self.layout.lock, f"sweeping into {self.folder}")

    def leftovers(self, stored: Collection[int]) -> list[Place]:
        """What killed sweeps left: half-written files, states of fits that are stored since."""
        states = [state for state in self.layout.fit_states() if state_size(state) in stored]
        return states + self.layout.half_written()

    def remove_leftovers(self, stored: Collection[int]) -> None:
        """Of an experiment that is owned; stored: K of its dictionaries."""
        for path in self.leftovers(stored):
            remove(path)

    @property
    def preprocessed_like(self) -> Place:
        """Dictionary store whose dictionaries, if any, tell how patches are preprocessed."""
        return self.layout.dictionaries

    def stages(self, centroids: np.ndarray) -> list[np.ndarray]:
        """Centroids, (k, d), of all stages whose sums stand for patches, these being the last."""
        return [centroids]

    def describe(self) -> dict[str, Any]:
        """What the dictionary store records of its experiment: plain JSON."""
        options = self.options
        return {
            "dataset": options.dataset,
            "data": str(options.data),
            **({"test": options.test} if options.test else {}),
            "spec": self.train.spec.to_dict(),
            "source": self.train.source,
            "train_store": self.train.name,
            "test_store": self.test.name if self.test else None,
            "n_rows": self.train.n_rows,
            "dim": self.train.dim,
            "heldout_rows": self.heldout_rows,
            "fit": options.in_use(),
            "digest": self.digest,
        }
