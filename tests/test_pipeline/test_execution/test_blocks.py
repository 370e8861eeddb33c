"""Fits of Dask arrays where their blocks lie, against fits of the same rows in this process."""

import os
import pickle
import signal
from collections.abc import Iterator
from typing import Any

import dask
import dask.array
import numpy as np
import pytest
import xarray
from distributed import Client, LocalCluster

from pipeline import StreamingKMeans
from pipeline.engines.cpu.assignment_cache import AssignmentCache
from pipeline.execution.blocks import BlocksOnWorkers, address_of, client_at_work
from pipeline.runtime.progress import SilentProgress
from storage import InputError
from tests.test_pipeline.test_execution.clusters import two_workers_here

COMPUTED: list[int] = []  # first row of each block that was computed; workers are threads here


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    rng = np.random.default_rng(3)
    return (60 * rng.integers(0, 4, (8000, 1)) + rng.integers(0, 20, (8000, 9))).astype(np.uint8)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """The default one of this process, of two workers."""
    with two_workers_here(2) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_computed_yet() -> None:
    COMPUTED.clear()


def noted(block: np.ndarray, block_info: Any = None) -> np.ndarray:
    COMPUTED.append(block_info[0]["array-location"][0][0])
    return block


def lazy(rows: np.ndarray, chunks: Any = 1000) -> Any:
    """As a Dask array that tells in COMPUTED of each block that is computed."""
    given = dask.array.from_array(rows, chunks=(chunks, *rows.shape[1:]))
    return given.map_blocks(noted, dtype=rows.dtype, meta=np.empty((0,) * rows.ndim, rows.dtype))


def test_each_block_is_computed_once(rows: np.ndarray, client: Client) -> None:
    asked = {"mode": "full", "max_iter": 4, "tol": 0, "random_state": 0}
    here = StreamingKMeans(12, **asked).fit(rows)
    there = StreamingKMeans(12, **asked).fit(lazy(rows))
    assert len(there.history_["mse"]) == 5
    assert sorted(COMPUTED) == list(range(0, 8000, 1000))
    np.testing.assert_array_equal(there.cluster_centers_, here.cluster_centers_)
    np.testing.assert_array_equal(there.counts_, here.counts_)
    assert there.inertia_ == here.inertia_
    assert there.history_["mse"] == here.history_["mse"]


def test_labels_are_lazy(rows: np.ndarray, client: Client) -> None:
    here = StreamingKMeans(7, max_iter=3, random_state=0).fit(rows)
    km = StreamingKMeans(7, max_iter=3, random_state=0).fit(lazy(rows))
    COMPUTED.clear()
    found = km.labels_, km.predict(lazy(rows))
    assert COMPUTED == []
    for labels in found:
        assert isinstance(labels, dask.array.Array)
        assert (labels.shape, labels.dtype) == ((8000,), np.int32)
        assert labels.chunks == ((1000,) * 8,)
        np.testing.assert_array_equal(labels.compute(), here.labels_)
    assert {*COMPUTED} == {*range(0, 8000, 1000)}
    assert isinstance(km.predict(rows), np.ndarray)
    assert not hasattr(pickle.loads(pickle.dumps(km)), "labels_")
    assert km.score(lazy(rows)) == here.score(rows)


@pytest.mark.parametrize("kind", ["uneven", "patches", "xarray", "columns"])
def test_blocks_of_any_shape_give_the_same_fit(
    rows: np.ndarray, kind: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.kmeans.nested.FIRST_ROWS", 1000)  # so that there are prefixes
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 << 8)
    patches = rows.reshape(-1, 3, 3)
    given = {
        "uneven": lambda: lazy(rows, (1, 0, 5000, 2999)),
        "patches": lambda: dask.array.from_array(patches, chunks=(3000, 2, 3)),
        "xarray": lambda: xarray.DataArray(lazy(patches), dims=("patch", "row", "column")),
        "columns": lambda: dask.array.from_array(rows, chunks=(3000, 5)),
    }[kind]()
    asked = {"max_iter": 3, "breathing": 2, "random_state": 1}
    here, there = (StreamingKMeans(10, **asked).fit(each) for each in (rows, given))
    np.testing.assert_array_equal(there.cluster_centers_, here.cluster_centers_)
    assert there.inertia_ == here.inertia_
    np.testing.assert_array_equal(there.labels_.compute(), here.labels_)


@pytest.mark.parametrize("preprocess", ["none", "zca"])
def test_floats_do_not_depend_on_the_workers(
    rows: np.ndarray, preprocess: str, client: Client
) -> None:
    wide = (rows / 7).astype(np.float32)
    asked = {"max_iter": 4, "preprocess": preprocess, "random_state": 0}
    here = StreamingKMeans(6, **asked).fit(wide)
    there, again = (StreamingKMeans(6, **asked).fit(lazy(wide)) for _ in range(2))
    np.testing.assert_array_equal(there.cluster_centers_, again.cluster_centers_)
    np.testing.assert_allclose(there.inertia_, here.inertia_, rtol=1e-5)
    np.testing.assert_array_equal(there.labels_.compute(), there.predict(wide))


def test_rows_that_are_refused_are_told_by_their_numbers(rows: np.ndarray, client: Client) -> None:
    wide = rows.astype(np.float32)
    wide[6123] = np.nan
    with pytest.raises(InputError, match="1 of rows 6000 to 7000 hold infinite values or NaN"):
        StreamingKMeans(3, mode="full").fit(lazy(wide))
    learnt = StreamingKMeans(3, max_iter=1).fit(rows.astype(np.float32))
    with pytest.raises(InputError, match="1 of rows 6000 to 7000 hold infinite values or NaN"):
        learnt.predict(lazy(wide)).compute()
    unknown = lazy(rows)[lazy(rows)[:, 0] > 60]
    with pytest.raises(InputError, match="compute_chunk_sizes"):
        StreamingKMeans(3).fit(unknown)
    short = lazy(rows).map_blocks(lambda block: block[:990], dtype=np.uint8, chunks=(1000, 9))
    with pytest.raises(InputError, match="holds 990 rows where the array states 1000"):
        StreamingKMeans(3, mode="full").fit(short)
    with pytest.raises(InputError, match="K = 9 is more than the 1 distinct rows"):
        StreamingKMeans(9).fit(dask.array.zeros((100, 2), chunks=30, dtype=np.uint8))


def test_only_sums_and_samples_come_here(
    rows: np.ndarray, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    take = BlocksOnWorkers.take_rows

    def counted(source: BlocksOnWorkers, numbers: np.ndarray) -> np.ndarray:
        taken.append(len(numbers))
        return take(source, numbers)

    monkeypatch.setattr("pipeline.kmeans.seeding.MIN_SAMPLE_ROWS", 100)
    monkeypatch.setattr("pipeline.kmeans.seeding.SAMPLE_ROWS_PER_CENTROID", 10)
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 << 8)
    monkeypatch.setattr(BlocksOnWorkers, "take_rows", counted)
    StreamingKMeans(10, max_iter=3, breathing=2, random_state=0).fit(lazy(rows))
    assert 100 <= sum(taken) < 1000


def test_sums_that_blocks_keep_for_the_next_pass_have_a_limit(
    rows: np.ndarray, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    finish, forget = AssignmentCache.finish, AssignmentCache.forget_sums

    def finished(cache: AssignmentCache, *given: Any) -> None:
        finish(cache, *given)
        kept.append(1)

    def forgot(cache: AssignmentCache) -> None:
        forget(cache)
        kept.append(-1)

    monkeypatch.setattr(AssignmentCache, "finish", finished)
    monkeypatch.setattr(AssignmentCache, "forget_sums", forgot)
    monkeypatch.setattr("pipeline.execution.shards.KEPT_SUMS_BYTES", 3 * 8 * 9 * 6)
    asked = {"mode": "full", "max_iter": 3, "tol": 0, "random_state": 0}
    there = StreamingKMeans(6, **asked).fit(lazy(rows))
    # Workers are threads here, and share what they keep: three blocks of eight, of the first pass.
    assert sum(kept) == 3
    np.testing.assert_array_equal(
        there.cluster_centers_, StreamingKMeans(6, **asked).fit(rows).cluster_centers_
    )


@pytest.mark.parametrize("where", ["address", pytest.param("processes:1", marks=pytest.mark.slow)])
def test_a_scheduler_may_be_named(rows: np.ndarray, where: str, client: Client) -> None:
    scheduler = address_of(client) if where == "address" else where
    given = dask.array.from_array(rows, chunks=(3000, 9))
    asked = {"max_iter": 2, "breathing": 1, "random_state": 0}
    here = StreamingKMeans(5, **asked).fit(rows)
    there = StreamingKMeans(5, scheduler=scheduler, **asked).fit(given)
    np.testing.assert_array_equal(there.cluster_centers_, here.cluster_centers_)
    assert there.score(given) == here.score(rows)
    np.testing.assert_array_equal(there.labels_.compute(), here.labels_)


@pytest.mark.slow
def test_blocks_of_a_lost_worker_are_computed_again(
    rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.kmeans.nested.FIRST_ROWS", 2000)
    asked = {"max_iter": 6, "breathing": 2, "random_state": 0}
    here = StreamingKMeans(9, **asked).fit(rows)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        victim = [*client.run(os.getpid).values()]

        class Kills(SilentProgress):
            def advance(self, units: int, **facts: Any) -> None:
                if facts.get("pass") == 3 and victim:
                    os.kill(victim.pop(), signal.SIGKILL)
                    victim.clear()

        given = dask.array.from_array(rows, chunks=(1000, 9))
        there = StreamingKMeans(9, progress=Kills(), **asked).fit(given)
        assert not victim
        np.testing.assert_array_equal(there.cluster_centers_, here.cluster_centers_)
        assert there.inertia_ == here.inertia_


def test_who_computes_is_whom_dask_would_ask(rows: np.ndarray, client: Client) -> None:
    assert client_at_work() is client
    with dask.config.set(scheduler="threads"):
        assert client_at_work() is None
        km = StreamingKMeans(3, max_iter=1, random_state=0).fit(lazy(rows))
        assert isinstance(km.labels_, np.ndarray)
    within = client.submit(lambda: client_at_work() is None, pure=False)
    assert within.result()  # a task that waits for tasks would hold its thread
