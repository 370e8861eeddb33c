"""Every way to read a damaged patch store refuses it by name."""

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from pipeline import StreamingKMeans
from pipeline.execution.gather import StoreOnWorkers
from pipeline.execution.scheduler import Scheduler
from pipeline.rows.source import StoreSource
from storage import IntegrityError, PatchStore, open_patches
from tests.damage import DAMAGES, chunk_file, restore

REMEDY = r"run the same extract or sweep again"
READERS: dict[str, Callable[[PatchStore], object]] = {
    "read_chunk": lambda store: store.read_chunk(2),
    "array": lambda store: store.array[store.chunk_rows * 2 + 1],
    "array by zarr's selections": lambda store: store.array.oindex[[0, store.chunk_rows * 2]],
    "dask": lambda store: store.to_dask().compute(scheduler="threads"),
    "dask slice": lambda store: store.to_dask()[store.chunk_rows * 2].compute(),
    "xarray": lambda store: store.to_xarray().load(),
    "fit": lambda store: StreamingKMeans(2, max_iter=1).fit(store),
    "predict": lambda store: StreamingKMeans(2, max_iter=1).fit(np.eye(9)).predict(store),
    "predict zarr": lambda s: StreamingKMeans(2, max_iter=1).fit(np.eye(9)).predict(s.array),
    "score": lambda store: StreamingKMeans(2, max_iter=1).fit(np.eye(9)).score(store.to_dask()),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_store_chunk_and_remedy(store: PatchStore, reader: str) -> None:
    read, file = READERS[reader], chunk_file(store, 2)
    read(store)
    whole = file.read_bytes()
    for damage in DAMAGES.values():
        damage(file, np.random.default_rng(0))
        for opened in (store, open_patches(store.path)):  # before the damage, and after
            with pytest.raises(IntegrityError, match=f"^chunk 2 of {store.path}.*: {REMEDY}"):
                read(opened)
        restore(file, whole)
    read(store)


def test_what_is_sent_to_a_worker_checks_there_too(store: PatchStore) -> None:
    sent = pickle.dumps(store.array)  # as dask does
    chunk_file(store, 2).write_bytes(chunk_file(store, 1).read_bytes())  # whole, but another's
    with pytest.raises(IntegrityError, match=f"chunk 2 of {store.path}/patches is not the one"):
        pickle.loads(sent)[:]


@pytest.mark.slow
@pytest.mark.filterwarnings("default::ResourceWarning", "default::DeprecationWarning")
def test_workers_of_a_cluster_refuse_damage(store: PatchStore) -> None:
    lazy = store.to_dask()
    DAMAGES["missing"](chunk_file(store, 2), np.random.default_rng(0))
    with (
        Scheduler("processes:1") as scheduler,
        pytest.raises(IntegrityError, match=f"chunk 2 of {store.path}/patches is missing"),
    ):
        scheduler.client.compute(lazy.sum()).result()


def test_a_worker_with_another_store_of_that_name_refuses(store: PatchStore) -> None:
    there = StoreOnWorkers.of(StoreSource(store))
    assert there.opened().n_rows == store.n_rows
    with pytest.raises(IntegrityError, match="is another store for a worker"):
        replace(there, seal="0" * 64).opened()
