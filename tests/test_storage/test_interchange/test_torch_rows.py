"""A patch store in training loops: every row exactly once, in an order that can be repeated."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from pipeline import extract
from storage import InputError, IntegrityError, PatchSpec, PatchStore, open_patches, patch_spec
from storage.interchange.torch_rows import PatchRows

# newer Pythons say so wherever a process with threads forks, as loaders do
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """The digits in patches of 3×3, in several chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patch_spec, "CHUNK_BYTES", 4096 * 9)
        folder = tmp_path_factory.mktemp("rows")
        found = extract("digits", patch=PatchSpec(3, 3), out=folder)[0]
    assert found.n_chunks > 9
    return found


def all_rows(store: PatchStore) -> np.ndarray:
    return np.asarray(store.array[:])


def gathered(batches: Iterable[torch.Tensor]) -> np.ndarray:
    return torch.cat([batch.reshape(-1, 9) for batch in batches]).numpy()


def in_order(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


def assert_each_once(found: np.ndarray, store: PatchStore) -> None:
    np.testing.assert_array_equal(in_order(found), in_order(all_rows(store)))


@pytest.mark.parametrize("persistent", [False, True])
def test_two_workers_bring_each_row_once_in_a_new_order_each_epoch(
    persistent: bool, store: PatchStore
) -> None:
    loader = DataLoader(
        store.to_torch(), batch_size=1000, num_workers=2, persistent_workers=persistent
    )
    epochs = [gathered(loader) for _ in range(3)]
    for found in epochs:
        assert_each_once(found, store)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[1], epochs[2])


def test_batches_of_two_workers_bring_each_row_once(store: PatchStore) -> None:
    loader = DataLoader(store.to_torch(700), batch_size=None, num_workers=2)
    batches = list(loader)
    assert_each_once(gathered(batches), store)
    assert set(sorted(map(len, batches))[2:]) == {700}  # but the last of each worker
    assert batches[0].dtype == torch.uint8


@pytest.mark.slow  # for each imports torch
def test_workers_that_are_no_forks_do_so_too(store: PatchStore) -> None:
    loader = DataLoader(
        store.to_torch(5000), batch_size=None, num_workers=2, multiprocessing_context="spawn"
    )
    assert_each_once(gathered(loader), store)


def test_more_workers_than_chunks(store: PatchStore) -> None:
    rows = store.to_torch(4096, shuffle=False)
    rows._n_chunks = 1
    found = gathered(DataLoader(rows, batch_size=None, num_workers=2))
    np.testing.assert_array_equal(found, all_rows(store)[: store.chunk_rows])


def test_the_order_follows_from_seed_and_epoch(store: PatchStore) -> None:
    def epochs(rows: PatchRows, workers: int = 0) -> list[np.ndarray]:
        loader: Any = DataLoader(rows, batch_size=None, num_workers=workers)
        return [gathered(loader) for _ in range(2)]

    first, second = epochs(store.to_torch(512, seed=3))
    again = store.to_torch(100, seed=3)
    np.testing.assert_array_equal(epochs(again), [first, second])
    again.set_epoch(0)
    np.testing.assert_array_equal(epochs(again), [first, second])
    again.set_epoch(1)
    np.testing.assert_array_equal(gathered(again), second)
    assert not np.array_equal(gathered(store.to_torch(512, seed=4)), first)
    two, same = (epochs(store.to_torch(512, seed=3), workers=2) for _ in range(2))
    np.testing.assert_array_equal(two, same)


def test_without_shuffling_rows_are_as_in_the_store(store: PatchStore) -> None:
    for size in (None, 1, 999, 10**6):
        found = list(store.to_torch(size, shuffle=False))
        np.testing.assert_array_equal(gathered(found), all_rows(store))
        assert tuple(found[0].shape) == ((9,) if size is None else (min(size, len(store)), 9))


def test_rows_are_drawn_from_chunks_in_any_order(store: PatchStore) -> None:
    numbered = {bytes(row): place for place, row in reversed([*enumerate(all_rows(store))])}
    found = [numbered[bytes(row)] for row in gathered(store.to_torch(4096))]
    chunks = np.array(found) // store.chunk_rows
    firsts = [int(np.median(chunks[at : at + 4096])) for at in range(0, 4096 * 8, 4096)]
    assert firsts != sorted(firsts)


def test_what_is_no_batch_and_no_seed_is_refused(store: PatchStore) -> None:
    with pytest.raises(InputError, match="batch_size 0 is too small: use at least 1, or None"):
        store.to_torch(0)
    with pytest.raises(InputError, match="seed -1 is too small"):
        store.to_torch(seed=-1)


def test_damage_and_another_store_are_named(store: PatchStore, tmp_path: Path) -> None:
    path = tmp_path / store.path.name
    shutil.copytree(store.path, path)
    rows = open_patches(path).to_torch(100)
    chunk = path / store.chunk_key(3)
    content = bytearray(chunk.read_bytes())
    content[50] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"chunk 3 of .* fails its checksum"):
        list(rows)
    rows._seal = "another"
    with pytest.raises(IntegrityError, match="is another store than it was: open it again"):
        list(rows)
    shutil.rmtree(path)
    with pytest.raises(InputError, match="no patch store at"):
        list(rows)
