"""Folders of images: extracted, damaged and mended, changed half-way, unpacked where it pays."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import storage.tiles
from pipeline import extract
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction import build, tasks
from pipeline.extraction.tasks import ImageReference, TiledImages
from storage import ImageOptions, InputError, IntegrityError, PatchSpec, open_images
from storage.patch_store import PatchStore
from tests.test_pipeline.test_extraction.test_tiled import check

SIZES = [(30, 44), (51, 23), (40, 40), (8, 60)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Unequal grey images as PNG, in folders that are classes."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        place = tmp_path / "photos" / ("even" if number % 2 == 0 else "odd")
        place.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(1, 255, size).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return tmp_path / "photos"


def images_of(folder: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted(folder.glob("*/*.png"))]


def test_a_folder_of_unequal_images_gives_the_rows_of_each(folder: Path, tmp_path: Path) -> None:
    store = extract(folder, patch=6, out=tmp_path / "runs").store
    check(store, images_of(folder))
    assert store.source["smallest_image"] == [8, 23]
    assert extract(folder, patch=6, out=tmp_path / "runs").reused


def test_a_damaged_chunk_is_mended(folder: Path, tmp_path: Path) -> None:
    made = extract(folder, patch=6, out=tmp_path / "runs").store
    chunk = made.path / made.chunk_key(0)
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1])
    assert extract(folder, patch=6, out=tmp_path / "runs").repaired == 1
    assert chunk.read_bytes() == whole


def test_an_image_that_cannot_be_read_is_named_or_left_out(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "odd" / "1.png").read_bytes()
    (folder / "odd" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"1\.png is not a whole image"):
        extract(folder, patch=6, out=tmp_path / "runs")
    store = extract(folder, patch=6, out=tmp_path / "runs", on_error="skip").store
    left = [np.asarray(Image.open(p)) for p in sorted(folder.glob("*/*.png")) if p.stem != "1"]
    check(store, left)
    assert store.source["stated"] == {"on_error": "skip"}


@pytest.mark.parametrize("fault", ["changed", "gone", "cut"])
def test_a_file_that_changes_half_way_is_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    victim = folder / "odd" / "3.png"
    content = victim.read_bytes()
    count = build.PatchBuild.count

    def counted(self: build.PatchBuild) -> tuple[np.ndarray, np.ndarray]:
        found = count(self)
        if fault == "gone":
            victim.unlink()
        else:
            victim.write_bytes(content if fault == "changed" else content[:60])
            os.utime(victim, ns=(1, 1))
        return found

    monkeypatch.setattr(build.PatchBuild, "count", counted)
    with pytest.raises(InputError, match=r"3\.png"):
        extract(folder, patch=6, out=tmp_path / "runs")
    assert not list((tmp_path / "runs" / "patches").glob("*.zarr"))


def test_large_images_are_unpacked_where_tiles_would_decode_them_again_and_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage.tiles, "WHOLE_BYTES", 4000)
    monkeypatch.setattr(storage.tiles, "TILE_BYTES", 4000)
    unpacked: list[bool] = []
    write = tasks.write_block

    def written(images: tasks.TiledImages, path: Path, plan: object) -> None:
        unpacked.append(images.pixels is not None and (path / build.PIXELS).exists())
        write(images, path, plan)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks, "write_block", written)
    store: PatchStore = extract(folder, patch=6, out=tmp_path / "runs").store
    assert unpacked == [True] * store.n_chunks
    check(store, images_of(folder))
    assert not list(store.path.rglob(build.PIXELS))
    clustered = extract(folder, patch=6, out=tmp_path / "more", scheduler="processes:1").store
    np.testing.assert_array_equal(clustered.array[:], store.array[:])


def test_workers_that_have_images_open_take_up_those_of_another_day(
    folder: Path, tmp_path: Path
) -> None:
    with Scheduler("processes:1") as scheduler:
        for number in range(2):
            Image.fromarray(np.full((20, 30), 7 + number, np.uint8)).save(
                folder / "even" / f"-{number}.png"
            )
            store = extract(folder, patch=6, out=tmp_path / "runs", scheduler=scheduler).store
            check(store, images_of(folder))
    images = ImageReference(str(folder), "train", tmp_path, ImageOptions())
    reference = TiledImages.of(open_images(str(folder)), PatchSpec(6, 6)).referred_to(images)
    (folder / "even" / "-0.png").unlink()
    with pytest.raises(IntegrityError, match="changed while patches were cut from it, or is not"):
        tasks.count_block(reference, 0, np.zeros(1, np.uint32))
