"""The codec of large patches: chosen by what the rows are, and by nothing else."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.extraction.extract import extract
from storage import PatchStore
from storage.images.embedded import read_photos
from storage.patch_spec import Codec
from tests.damage import chunk_file, files_of, flip_bit

SHUFFLED, PLAIN = "zstd, shuffled by 128 bytes", "zstd, not shuffled"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A square, twice, (2, 100, 120) uint8."""
    squares = np.zeros((2, 100, 120), np.uint8)
    squares[:, 40:60, 50:70] = 255
    np.save(tmp_path / "squares.npy", squares)
    return tmp_path / "squares.npy"


def breaks_off(*_: object) -> None:
    raise KeyboardInterrupt


def test_rows_of_one_size_and_type_get_the_codec_that_suits_them(
    saved: Path, tmp_path: Path
) -> None:
    grey = read_photos()[:, 200:300, 200:320].mean(axis=3).astype(np.uint8)
    found = [
        extract(images, patch=16, keep="all", out=tmp_path).store.codec for images in (saved, grey)
    ]
    assert found == [SHUFFLED, PLAIN]


def test_every_scheduler_writes_the_same_files(saved: Path, tmp_path: Path) -> None:
    here, there = (
        extract(
            saved, patch=16, keep="all", out=tmp_path / name, memory="2GiB", scheduler=scheduler
        ).store
        for name, scheduler in (("here", ""), ("there", "processes:2"))
    )
    assert files_of(here.path) == files_of(there.path)


def test_what_was_begun_keeps_its_codec(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = files_of(extract(saved, patch=16, keep="all", out=tmp_path / "whole").store.path)
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.extraction.tasks.write_chunk", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            extract(saved, patch=16, keep="all", out=tmp_path / "killed")
    monkeypatch.setattr("pipeline.extraction.build.try_codecs", breaks_off)
    assert (
        files_of(extract(saved, patch=16, keep="all", out=tmp_path / "killed").store.path) == whole
    )


def test_a_kill_in_the_trial_leaves_what_is_begun_anew(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.extraction.build.try_codecs", breaks_off)
        with pytest.raises(KeyboardInterrupt):
            extract(saved, patch=16, keep="all", out=tmp_path)
    assert extract(saved, patch=16, keep="all", out=tmp_path).store.codec == SHUFFLED


def older_store(saved: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> PatchStore:
    """A store as it was written before codecs were tried."""
    with monkeypatch.context() as patched:
        older = Codec(False, 1, 256 * 1600)
        patched.setattr("pipeline.extraction.build.try_codecs", lambda *_: older)
        return extract(saved, patch=16, keep="all", out=out).store


def test_an_older_store_is_found_and_mended_as_it_was(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = older_store(saved, tmp_path, monkeypatch)
    whole = files_of(store.path)
    flip_bit(chunk_file(store, 0), 1000)
    found, reused, repaired = extract(saved, patch=16, keep="all", out=tmp_path)
    assert (found.codec, reused, repaired) == (PLAIN, True, 1)
    assert files_of(found.path) == whole
