"""The state of an unfinished fit after each pass, from which the same command goes on."""

import time
from contextlib import suppress
from typing import Any

import numpy as np

from pipeline.runtime.progress import Progress, SilentProgress
from storage.errors import IntegrityError
from storage.fit_state import read_checkpoint, write_checkpoint
from storage.layout import ExperimentLayout, state_size
from storage.places.place import Place

SHARE = 0.02  # of the time, at most, that saving takes


class FitCheckpoint:
    """Where the runs of one fit keep their state; one file each.

    folder: of the experiment. k: centroids of the fit. fit_identity: plain JSON, all that the fit's
    numbers depend on; a state of another fit is not taken up. spent: seconds that went into the
    state that was taken up.
    """

    def __init__(
        self, folder: Place, k: int, fit_identity: dict[str, Any], progress: Progress | None = None
    ) -> None:
        self.k, self._folder, self._identity = k, folder, fit_identity
        self._progress = progress or SilentProgress()
        self._started = self._saved = time.perf_counter()
        self._cost = 0.0
        self.spent = 0.0

    def load(self, run: str) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The state that the run of this name left; None where there is none that serves."""
        try:
            found = read_checkpoint(self._path(run))
        except IntegrityError as error:
            self._progress.note(f"K={self.k} starts anew: {error}")
            return None
        if found is None:
            return None
        arrays, facts = found
        if facts.pop("belongs") != self._identity:
            self._progress.note(f"K={self.k} starts anew: what is there was fitted otherwise")
            return None
        self.spent = max(self.spent, facts.pop("spent"))
        return arrays, facts

    def save(self, run: str, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Keep the state of a run.

        Not after every pass where passes are shorter than saving: those since the last time are
        made again then.
        """
        now = time.perf_counter()
        if now - self._saved < self._cost * (1 / SHARE - 1):
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        spent = self.spent + now - self._started
        write_checkpoint(
            self._path(run), arrays, {**facts, "belongs": self._identity, "spent": spent}
        )
        self._saved = time.perf_counter()
        self._cost = self._saved - now

    def _path(self, run: str) -> Place:
        return ExperimentLayout(self._folder).fit_state(self.k, run)


def unfinished_fits(folder: Place) -> list[dict[str, Any]]:
    """Of an experiment: k, passes, mse (of the last pass, on its rows), seconds; K ascending.

    Those whose state is damaged are left out: they start anew.
    """
    found: dict[int, dict[str, Any]] = {}
    for path in ExperimentLayout(folder).fit_states():
        with suppress(IntegrityError):
            stored = read_checkpoint(path)
            if stored is None:
                continue
            k, history = state_size(path), stored[1]["history"]
            before = found.get(k, {"passes": 0})
            found[k] = {
                "k": k,
                "passes": before["passes"] + len(history["mse"]),
                "mse": history["mse"][-1],
                "seconds": stored[1]["spent"],
            }
    return [found[k] for k in sorted(found)]
