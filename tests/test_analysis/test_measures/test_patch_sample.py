"""Samples of patch stores: whose rows they are, from where, and what is covered of them."""

import numpy as np
import pytest

from analysis import coverage
from analysis.measures import patch_sample as sampling
from analysis.measures.patch_sample import evenly, sample_patches
from storage import PatchStore
from tests.damage import flip_bit


@pytest.mark.parametrize(("most", "chunks"), [(1, 64), (400, 64), (400, 3), (10**6, 64)])
def test_a_sample_is_of_the_rows_that_it_names(
    store: PatchStore,
    rows: np.ndarray,
    most: int,
    chunks: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sampling, "SAMPLED_CHUNKS", chunks)
    sample = sample_patches(store, most)
    assert len(sample.values) == min(most, store.n_rows)
    assert (np.diff(sample.numbers) > 0).all()
    np.testing.assert_array_equal(sample.values, rows[sample.numbers])
    for place in range(len(store.order)):
        first, stop = store.offsets[place : place + 2]
        mine = sample.numbers[sample.offsets[place] : sample.offsets[place + 1]]
        assert mine.tolist() == [row for row in sample.numbers if first <= row < stop]
    used = set((sample.numbers // store.chunk_rows).tolist())
    assert len(used) <= min(chunks, len(sample.values))
    if most == 400:  # from the first to the last chunk, not the first rows
        assert {0, store.n_chunks - 1} <= used


def test_only_the_chunks_of_the_sample_are_read(
    store: PatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "SAMPLED_CHUNKS", 2)
    flip_bit(store.path / "patches" / "c" / "1" / "0", 200)
    assert len(sample_patches(store, 100).values) == 100


def test_a_sample_of_all_rows_is_covered_like_the_store(
    store: PatchStore, centroids: np.ndarray
) -> None:
    found = coverage(centroids, sample_patches(store, store.n_rows))
    assert found.equals(coverage(centroids, store))


def test_the_worst_of_a_sample_are_told_by_their_rows_in_the_store(
    store: PatchStore, rows: np.ndarray, centroids: np.ndarray
) -> None:
    found = coverage(centroids, sample_patches(store, 200), worst=9)
    patches = found["worst_patch"].values.reshape(9, -1)
    np.testing.assert_array_equal(patches, rows[found["worst_row"].values])
    places = np.searchsorted(store.offsets, found["worst_row"].values, side="right") - 1
    np.testing.assert_array_equal(store.order[places], found["worst_image"].values)
    assert len(set(places.tolist())) == 9


def test_even_steps_hold_both_ends() -> None:
    assert evenly(range(10), 4) == [0, 3, 6, 9]
    assert evenly("ab", 5) == ["a", "b"]
    assert evenly("abc", 1) == ["a"]
