"""Samples of the kept patches: of the size that was asked for, uniform, and the same again."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline import extract
from pipeline.extraction import sample
from pipeline.extraction.sample import drawn_counts
from storage import PatchSpec


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.data())
def test_counts_add_up_and_fit(counts: list[int], data: st.DataObject) -> None:
    kept = np.array(counts, np.int64)
    n = data.draw(st.integers(0, int(kept.sum())))
    found = drawn_counts(kept, n, data.draw(st.integers(0, 9)))
    assert found.sum() == n
    assert (found >= 0).all()
    assert (found <= kept).all()


def test_more_than_numpy_draws_from_are_shared_out() -> None:
    kept = np.full(300, 10**7)  # 3·10⁹
    found = drawn_counts(kept, 10**6, 0)
    assert found.sum() == 10**6
    expected = 10**6 / 300
    assert np.abs(found - expected).max() < 6 * np.sqrt(expected)
    assert sample._MOST_AT_ONCE < 10**9


def test_every_patch_is_drawn_equally_often(tmp_path: Path) -> None:
    images = np.arange(1, 241, dtype=np.uint8).reshape(4, 6, 10)  # each pixel another level
    times = np.zeros(256, int)
    for seed in range(60):
        spec = PatchSpec(1, 1, seed=seed, sample="25%")
        rows = extract(images, patch=spec, out=tmp_path).store.array[:, 0]
        assert len(rows) == len(set(rows.tolist())) == 60
        times[rows] += 1
    drawn = times[1:241]
    # 60 draws with probability 1/4: variance 11.25, within 5 standard deviations
    assert np.abs(drawn - 15).max() < 5 * 11.25**0.5
    assert abs(drawn.var() - 11.25) < 4


def test_a_sample_of_tiles_is_mended_bit_for_bit(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(1, 255, (1, 900, 1400)).astype(np.uint8)
    spec = PatchSpec(6, 6, sample="500000")
    made = extract(image, patch=spec, out=tmp_path).store
    assert made.n_rows == 500_000
    assert made.tile is not None
    chunk = made.path / made.chunk_key(1)
    whole = chunk.read_bytes()
    chunk.write_bytes(b"")
    assert extract(image, patch=spec, out=tmp_path).repaired == 1
    assert chunk.read_bytes() == whole
