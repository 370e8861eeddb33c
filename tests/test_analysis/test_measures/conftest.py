"""Patches that several measures are taken of."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.extraction.extract import extract
from storage import PatchSpec, PatchStore


@pytest.fixture
def store(strokes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatchStore:
    """A store of several chunks, the last of which is short, with images across them."""
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 12 * 256)
    found, *_ = extract(str(strokes_file), patch=PatchSpec(3, 4), out=tmp_path)
    assert found.n_chunks > 6
    assert found.n_rows % found.chunk_rows
    return found


@pytest.fixture
def rows(store: PatchStore) -> np.ndarray:
    """All rows of `store`, (n, 12)."""
    return np.concatenate([store.read_chunk(index) for index in range(store.n_chunks)])


@pytest.fixture
def centroids() -> np.ndarray:
    return np.random.default_rng(2).uniform(0, 255, (7, 3, 4)).astype(np.float32)
