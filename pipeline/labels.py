"""Labels of the rows of the last fit, as scikit-learn's clusterers have them."""

import tempfile
from typing import Any

import numpy as np

from pipeline.engines import AssignmentEngine
from pipeline.rows.arrays import is_lazy
from pipeline.rows.source import RowSource, read_ahead
from storage.mapped_files import scratch_folder


class LabelsOfRows:
    """Part of an estimator that has `cluster_centers_` and makes engines.

    Labels of rows in memory are found at once; those of rows that are read block by block, or
    mapped, when first asked for, into a temporary file, and they are not pickled.
    """

    cluster_centers_: np.ndarray

    def _engine(self, source: RowSource) -> AssignmentEngine:
        raise NotImplementedError

    @property
    def labels_(self) -> np.ndarray:
        if "_rows" in vars(self):
            with tempfile.TemporaryFile(dir=scratch_folder()) as file:
                labels = np.memmap(file, np.int32, "w+", shape=(self._rows.n_rows,))
            self._labels = self._assign(self._rows, labels)
            del self._rows
        if "_labels" not in vars(self):
            raise AttributeError("no labels_: use fit, or predict")
        return self._labels

    def _label(self, rows: Any, source: RowSource) -> None:
        """Take the rows, as they were given and as a source, for those of `labels_`."""
        if is_lazy(rows):
            self._rows = source
        else:
            self._labels = self._assign(source)

    def _assign(self, source: RowSource, into: np.ndarray | None = None) -> np.ndarray:
        labels = np.empty(source.n_rows, np.int32) if into is None else into
        engine, start = self._engine(source), 0
        engine.load(self.cluster_centers_)
        for block in read_ahead(source):
            labels[start : start + len(block)] = engine.assign(block)
            start += len(block)
        return labels

    def _forget(self, *names: str) -> None:
        """Attributes that are not true of new rows."""
        for name in ("stopped_", "history_", "_labels", "_rows", *names):
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        left_out = {"_rows"} | (
            {"_labels"} if isinstance(state.get("_labels"), np.memmap) else set()
        )
        return {name: value for name, value in state.items() if name not in left_out}
