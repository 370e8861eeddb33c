"""A store of several chunks, and what cuts it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pipeline.extraction.build import Extracted
from pipeline.extraction.extract import extract
from storage import PatchStore

Cut = Callable[..., Extracted]


@pytest.fixture
def cut(strokes_file: Path, small_chunks: None) -> Cut:
    return partial(extract, strokes_file, patch=3)


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 256)


@pytest.fixture
def store(cut: Cut, tmp_path: Path) -> PatchStore:
    found = cut(out=tmp_path).store
    assert found.n_chunks > 4
    return found
