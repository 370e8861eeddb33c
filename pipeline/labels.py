"""Labels of the rows of the last fit, as scikit-learn's clusterers have them."""

import tempfile
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.engines import AssignmentEngine, EngineSpec
from pipeline.execution.blocks import BlockRows, lazy_array, of_blocks
from pipeline.rows.arrays import is_lazy
from pipeline.rows.source import ArraySource, RowSource, read_ahead
from pipeline.runtime.devices import resolve_device
from storage.mapped_files import scratch_folder


@dataclass(frozen=True)
class LabelsOfBlock:
    """Finds the labels of a source's rows, (m,) int32, on a worker.

    centroids: (k, d). engine, device: names, of what is there.
    """

    centroids: np.ndarray
    engine: str
    device: str

    def __call__(self, source: RowSource) -> np.ndarray:
        device = resolve_device(self.device, source.dtype)
        spec = EngineSpec.resolve(self.engine, device, source.dim, source.dtype)
        labels = np.empty(source.n_rows, np.int32)
        _label_rows(source, spec.make(largest=len(self.centroids)), self.centroids, labels)
        return labels


def _label_rows(
    source: RowSource, engine: AssignmentEngine, centroids: np.ndarray, into: np.ndarray
) -> None:
    start = 0
    engine.load(centroids)
    for block in read_ahead(source):
        into[start : start + len(block)] = engine.assign(block)
        start += len(block)


class LabelsOfRows:
    """Part of an estimator that has `cluster_centers_` and makes engines.

    Labels of rows in memory are found at once; those of rows that are read block by block, or
    mapped, when first asked for, into a temporary file, and they are not pickled. Those of a Dask
    array on workers are one, too, and no more than a plan: it holds no rows.
    """

    cluster_centers_: np.ndarray
    engine: str
    device: str

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
        _label_rows(source, self._engine(source), self.cluster_centers_, labels)
        return labels

    def _lazy_labels(self, source: RowSource) -> Any:
        """Labels of a Dask array's rows as one, (n,) int32: Dask finds what it is asked for."""
        assert isinstance(source, ArraySource)
        task = LabelsOfBlock(self.cluster_centers_, self.engine, self.device or "auto")
        how = BlockRows.of(source, vars(self).get("preprocessing_"))
        return of_blocks(lazy_array(source), how, task)

    def _forget(self, *names: str) -> None:
        """Attributes that are not true of new rows."""
        for name in ("stopped_", "history_", "_labels", "_rows", *names):
            self.__dict__.pop(name, None)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        kept = type(state.get("_labels")) is np.ndarray
        left_out = {"_rows"} | (set() if kept else {"_labels"})
        return {name: value for name, value in state.items() if name not in left_out}
