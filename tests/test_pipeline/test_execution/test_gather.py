"""Rows that workers take of a store, against those that this process takes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pipeline.config import FitOptions
from pipeline.execution.gather import ReadByWorkers
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.extract import extract
from pipeline.preprocessing import Preprocessing
from pipeline.rows.source import RowSource, StoreSource, map_blocks, take_rows
from pipeline.runtime.progress import Progress, SilentProgress
from storage import IntegrityError, PatchSpec, PatchStore


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 4096)
        return extract("digits", patch=PatchSpec(3, 3), out=folder).store


@pytest.fixture(scope="module")
def workers() -> Iterator[Scheduler]:
    with Scheduler("processes:2") as scheduler:
        yield scheduler


@pytest.mark.parametrize("preprocess", ["none", "zca"])
def test_workers_take_the_rows_and_this_process_reads_none(
    store: PatchStore, workers: Scheduler, preprocess: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.n_chunks > 8
    options = FitOptions.checked(preprocess=preprocess)
    source = StoreSource(store, Preprocessing.learn(StoreSource(store), options))
    rng = np.random.default_rng(0)
    asked = (
        rng.choice(store.n_rows, 1000, replace=False),
        np.array([store.n_rows - 1, 5, 5, 0, 5]),
        np.array([7]),
    )
    expected = [take_rows(source, numbers) for numbers in asked]

    monkeypatch.setattr(PatchStore, "read_chunk", unread)
    spread = ReadByWorkers(source, workers)
    for numbers, rows in zip(asked, expected, strict=True):
        taken = take_rows(spread, numbers)
        assert taken.dtype == rows.dtype
        np.testing.assert_array_equal(taken, rows)


def test_workers_make_something_of_each_chunk(
    store: PatchStore, workers: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, seen = StoreSource(store), list[int]()

    class Counts(SilentProgress):
        def advance(self, units: int, **facts: Any) -> None:
            seen.append(units)

    expected = map_blocks(source, first_values, SilentProgress())
    assert len(expected) == store.n_chunks
    monkeypatch.setattr(PatchStore, "read_chunk", unread)
    assert map_blocks(ReadByWorkers(source, workers), first_values, Counts()) == expected
    assert sum(seen) == store.n_rows


def first_values(source: RowSource, blocks: range, progress: Progress) -> list[int]:
    return [int(source.read_block(index)[0].sum()) for index in blocks]


def unread(*_: Any) -> None:
    raise AssertionError("read here")


def test_another_store_of_that_name_is_refused(store: PatchStore, workers: Scheduler) -> None:
    source = ReadByWorkers(StoreSource(store), workers)
    source.seal = "0" * 64
    with pytest.raises(IntegrityError, match="is another store for a worker"):
        take_rows(source, np.array([1]))
