"""What is found before anything is written: `extract --dry-run`, the codec of large patches."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pipeline.command_line import group
from pipeline.extraction.extract import extract
from storage import PatchStore
from storage.images.embedded import read_photos
from storage.patch_spec import Codec
from tests.damage import chunk_file, files_of, flip_bit

SHUFFLED, PLAIN = "zstd, shuffled by 128 bytes", "zstd, not shuffled"


def run(*arguments: object) -> dict[str, object]:
    result = CliRunner().invoke(group, ["extract", *map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("options", [(), ("--sample", "30%"), ("--keep", "std>0.25")])
def test_what_is_foreseen_is_what_is_written(tmp_path: Path, options: tuple[str, ...]) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", rng.integers(0, 255, (40, 60, 50)).astype(np.uint8))
    given = ("--dataset", tmp_path / "mine.npy", "--out", tmp_path / "runs", "--patch", 4, *options)
    told = run(*given, "--dry-run")
    assert not (tmp_path / "runs").exists()
    made = run(*given)
    assert (told["store"], told["rows"], told["dim"]) == (made["store"], made["rows"], made["dim"])
    assert 0.8 < told["bytes"] / made["bytes"] < 1.2
    assert 0 < told["seconds"] < 60
    assert told["memory"] > 50 << 20
    assert (told["reused"], run(*given, "--dry-run")["reused"]) == (False, True)


def test_people_are_told_in_a_line(tmp_path: Path) -> None:
    words = ["extract", "--dataset", "digits", "--out", str(tmp_path / "runs"), "--dry-run"]
    told = CliRunner().invoke(group, words).stdout
    assert "24,000 rows of 25" in told
    assert told.endswith("; nothing is written\n")


def test_a_cap_that_is_too_small_is_refused_as_ever(tmp_path: Path) -> None:
    words = ["extract", "--dataset", "digits", "--dry-run", "--memory", "20MiB"]
    result = CliRunner().invoke(group, words)
    assert result.exit_code != 0
    assert "more than the cap" in str(result.exception)


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
