"""Stores of images that are cut into tiles, and of unequal ones: the rows of whole images."""

import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.images.reader
import storage.tiles
from pipeline import extract
from pipeline.extraction import tasks
from pipeline.extraction.first_reading import FirstReading
from pipeline.extraction.tasks import TiledImages
from pipeline.runtime.progress import SilentProgress
from storage import ImageSource, InputError, PatchSpec, open_patches
from storage.patch_spec import ChunkPlan
from storage.patch_store import PatchStore
from tests.oracles import cut_by_loops, reflected
from tests.programs import run_python


def sorted_rows(rows: np.ndarray) -> np.ndarray:
    return rows[np.lexsort(rows.T)]


def expected_rows(images: list[np.ndarray], spec: PatchSpec) -> np.ndarray:
    """Rows of all images, each cut whole, one by one; those that are too small have none."""
    fits = [i[np.newaxis] for i in images if i.shape[0] >= spec.rows and i.shape[1] >= spec.cols]
    if spec.border == "reflect":
        fits = [reflected(i, spec.rows, spec.cols) for i in fits]
    return np.concatenate([cut_by_loops(i, spec.rows, spec.cols, spec.stride, 0) for i in fits])


def check(store: PatchStore, images: list[np.ndarray]) -> None:
    rows, order, offsets = store.array[:], store.order, store.offsets
    np.testing.assert_array_equal(sorted_rows(rows), sorted_rows(expected_rows(images, store.spec)))
    # each place holds rows of the image that it says
    for image in range(len(images)):
        places = np.flatnonzero(order == image)
        own = [rows[offsets[place] : offsets[place + 1]] for place in places]
        found = np.concatenate([rows[:0], *own])
        assert len(found) == store.image_counts[image]
        if len(found):
            alone = expected_rows([images[image]], store.spec)
            np.testing.assert_array_equal(sorted_rows(found), sorted_rows(alone))


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(3, 40), st.integers(3, 40)), min_size=1, max_size=4),
    st.builds(
        PatchSpec,
        st.integers(1, 4),
        st.integers(1, 4),
        st.integers(1, 5),
        border=st.sampled_from(["valid", "reflect"]),
    ),
    st.sampled_from([1, 3]),
    st.sampled_from([400, 3000, 1 << 30]),
    st.sampled_from([1, 100, 1 << 24]),
)
def test_tiles_of_any_size_give_the_rows_of_whole_images(
    sizes: list[tuple[int, int]], spec: PatchSpec, channels: int, limit: int, block: int
) -> None:
    rng = np.random.default_rng(len(sizes))
    shape = (channels,) if channels > 1 else ()
    images = [rng.integers(1, 255, (*size, *shape)).astype(np.uint8) for size in sizes]
    for image in images:
        image[: len(image) // 2, ::3] = image[len(image) // 3 :] = 0
        image[0, 0] = 9  # some patches are blank, not all
    if not any(h >= spec.rows and w >= spec.cols for h, w in sizes):
        return
    with pytest.MonkeyPatch.context() as patched, TemporaryDirectory() as out:
        patched.setattr(storage.tiles, "WHOLE_BYTES", limit)
        patched.setattr(storage.tiles, "TILE_BYTES", limit)
        patched.setattr(storage.images.reader, "BLOCK_BYTES", block)
        check(extract(images, patch=spec, out=out).store, images)


def test_a_large_mapped_image_takes_no_more_memory_than_a_tile(tmp_path: Path) -> None:
    """In a process of its own, whose peak is the operating system's."""
    pixels = np.lib.format.open_memmap(tmp_path / "slide.npy", "w+", np.uint8, (1, 6000, 20000))
    pixels[:, ::3, ::7] = 9
    pixels.flush()
    done = run_python(
        "-c",
        "import resource, sys\n"
        "from pipeline import extract\n"
        "import dask, zarr\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "store = extract(sys.argv[1], patch=8, stride=8, out=sys.argv[2], layout='NHW').store\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(store.n_rows, (after - before) // 1024)\n",
        str(tmp_path / "slide.npy"),
        str(tmp_path / "runs"),
    )
    assert done.returncode == 0, done.stderr
    rows, grown = map(int, done.stdout.split())
    assert rows == 750 * 2500
    assert grown < 250  # MiB; the pixels alone are 114, with sums and patches 2.8 GiB


def test_a_broken_off_store_of_a_large_image_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 900, 1400)).astype(np.uint8)
    whole = extract(image, patch=6, out=tmp_path / "whole").store
    write, written = tasks.write_block, list[int]()

    def broken_off(images: tasks.TiledImages, path: Path, plan: ChunkPlan) -> None:
        if len(written) >= 3:  # two threads may pass it at once
            raise KeyboardInterrupt
        write(images, path, plan)
        written.append(plan.index)

    monkeypatch.setattr(tasks, "write_block", broken_off)
    with pytest.raises(KeyboardInterrupt):
        extract(image, patch=6, out=tmp_path / "broken")
    left = len(written)
    assert 0 < left < whole.n_chunks

    def noted(images: tasks.TiledImages, path: Path, plan: ChunkPlan) -> None:
        written.append(plan.index)
        write(images, path, plan)

    monkeypatch.setattr(tasks, "write_block", noted)
    again = extract(image, patch=6, out=tmp_path / "broken").store
    assert set(written) == set(range(whole.n_chunks))
    assert len(written) <= whole.n_chunks + 2  # other threads may still have been at work
    for index in range(whole.n_chunks):
        key = whole.chunk_key(index)
        assert (again.path / key).read_bytes() == (whole.path / key).read_bytes()


def test_a_damaged_chunk_of_a_tiled_store_is_mended(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (1, 900, 1400)).astype(np.uint8)
    made = extract(image, patch=6, out=tmp_path).store
    assert made.tile is not None
    chunk = made.path / made.chunk_key(made.n_chunks // 2)
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-9])
    again = extract(image, patch=6, out=tmp_path)
    assert (again.reused, again.repaired) == (True, 1)
    assert chunk.read_bytes() == whole
    assert open_patches(made.path).image_order.tolist() == [0]


def test_lists_of_several_kinds_are_refused(tmp_path: Path) -> None:
    grey = np.ones((6, 7), np.uint8)
    for images in ([grey, grey.astype(np.uint16)], [grey, np.ones((6, 7, 3), np.uint8)], []):
        with pytest.raises(InputError, match=r"of several kinds|are none"):
            extract(images, patch=3, out=tmp_path)


def test_a_reflected_border_of_many_small_images_is_made_for_some_at_a_time() -> None:
    images = ImageSource("many", "train", np.ones((200_000, 8, 8), np.uint8))
    tiled = TiledImages.of(images, PatchSpec(8, 8, 8, border="reflect"))
    tracemalloc.start()
    try:
        reading = FirstReading.of(tiled, 1, SilentProgress())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert reading.counts is not None
    assert int(reading.counts.sum()) == 200_000
    assert peak < 40 << 20  # all at once take 45 MB alone
