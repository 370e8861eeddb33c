"""A patch store as an iterable data set of torch, for training loops."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from storage.errors import InputError, IntegrityError
from storage.patch_store import open_patches

if TYPE_CHECKING:
    from storage.patch_store import PatchStore

_MOST_WORKERS = 1024  # of a loader


class PatchRows(IterableDataset[torch.Tensor]):
    """The rows of a patch store, or batches of them; see `PatchStore.to_torch`.

    Each worker of a loader reads chunks of its own, the same in every epoch, so that every row
    comes exactly once.
    """

    def __init__(self, store: "PatchStore", batch_size: int | None, shuffle: bool, seed: int):
        super().__init__()
        if batch_size is not None and batch_size < 1:
            raise InputError(f"batch_size {batch_size} is too small: use at least 1, or None")
        if seed < 0:
            raise InputError(f"seed {seed} is too small: use 0 or more")
        self.path, self.n_rows, self.dim = store.path, store.n_rows, store.dim
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self._seal, self._n_chunks = store.seal, store.n_chunks
        # The next epoch of each worker, which it counts by itself: one may begin when others have
        # ended. In shared memory, for workers are other processes, and may not outlive an epoch.
        self._epochs = torch.zeros(_MOST_WORKERS, dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """The order of the next epoch is that of this number; each begun one adds 1."""
        self._epochs.fill_(epoch)

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        epoch = int(self._epochs[number])
        self._epochs[number] += 1
        chunks = self._chunks(
            np.arange(number, self._n_chunks, workers), [self.seed, epoch, number]
        )
        if self.batch_size is None:
            return (row for chunk in chunks for row in chunk)
        return _batches(chunks, self.batch_size)

    def _chunks(self, indices: np.ndarray, seed: list[int]) -> Iterator[torch.Tensor]:
        """Rows of these chunks, chunk by chunk, opened anew: a fork cannot share zarr's threads."""
        store, rng = open_patches(self.path), np.random.default_rng(seed)
        if store.seal != self._seal:
            raise IntegrityError(f"{self.path} is another store than it was: open it again")
        for index in rng.permutation(indices) if self.shuffle else indices:
            rows = store.read_chunk(int(index))
            yield torch.from_numpy(rng.permutation(rows) if self.shuffle else rows)


def _batches(chunks: Iterator[torch.Tensor], size: int) -> Iterator[torch.Tensor]:
    """Batches of so many rows, the last of fewer."""
    left: list[torch.Tensor] = []
    for chunk in chunks:
        rows = torch.cat([*left, chunk])
        whole = len(rows) // size * size
        yield from rows[:whole].split(size) if whole else ()
        left = [rows[whole:]]
    if left and len(left[0]):
        yield left[0]
