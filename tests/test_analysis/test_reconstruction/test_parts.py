"""Large images, and images of several sizes, part by part: the same pixels, the same scores."""

import itertools
import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Literal

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from analysis import reconstruct, reconstruction_scores
from analysis.command_line import group
from analysis.reconstruction import image_stack
from analysis.reconstruction import overlap as rebuilding
from analysis.reconstruction.overlap import Rebuilder
from analysis.reconstruction.parts import parts_of, widest
from analysis.reconstruction.scores import overall
from storage import ImageSource, PatchSpec, open_dictionaries
from storage.images import writer as image_writer
from storage.images.array_reader import ListReader
from storage.images.pixel_range import PixelRange
from storage.tiles import extended
from tests.test_analysis.test_html_report.small_runs import learn
from tests.test_analysis.test_reconstruction.test_reconstruct import as_tree, some_centroids

SPEC = PatchSpec(3, 2, stride=2, threshold=0.11)
BORDERS: list[Literal["valid", "reflect"]] = ["valid", "reflect"]


@pytest.fixture
def by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of more than 60 values go by squares of 8 × 8, or of 4 × 4 in colour."""
    monkeypatch.setattr(image_stack, "WHOLE_VALUES", 60)
    monkeypatch.setattr(rebuilding, "BLOCK_VALUES", 64)


def unequal(*channels: int) -> list[np.ndarray]:
    """Images of several sizes, blank in places; no patch of SPEC fits into the third."""
    rng, found = np.random.default_rng(3), []
    for size in ((20, 31), (9, 9), (2, 40), (33, 12), (9, 9)):
        image = rng.integers(0, 256, (*size, *channels), np.uint8)
        image[: size[0] // 2, : size[1] // 2] = 0
        found.append(image)
    return found


@st.composite
def cuts(draw: st.DrawFn) -> tuple[tuple[int, ...], PatchSpec, int]:
    """The shape of an image, how it is cut, and the side of its parts."""
    rows, cols = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    size = draw(st.integers(rows, 30)), draw(st.integers(cols, 30))
    threshold, border = draw(st.sampled_from([0.0, 0.45])), draw(st.sampled_from(BORDERS))
    spec = PatchSpec(rows, cols, draw(st.integers(1, 9)), threshold, border=border)
    return (*size, *draw(st.sampled_from([(), (3,)]))), spec, draw(st.sampled_from([1, 2, 4, 8]))


@settings(max_examples=150)
@given(cuts(), st.sampled_from(["uint8", "float32"]), st.sampled_from([None, 0]))
def test_parts_are_those_of_the_whole_image_bit_for_bit(
    cut: tuple[tuple[int, ...], PatchSpec, int], dtype: str, nodata: int | None
) -> None:
    shape, spec, side = cut
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    levels = PixelRange(0, 255, nodata)
    image[image < 20] = 0
    centroids = some_centroids(spec, *shape[2:])
    rebuilder = Rebuilder(centroids, spec, image.dtype, levels)
    whole = rebuilder.rebuild(image[np.newaxis])
    images, cover = np.full(shape, np.nan), np.full(shape[:2], -1)
    patches, labels = 0, np.zeros(len(centroids) + 1, np.int64)
    limits = widest(side, (shape[0], shape[1]), spec)
    for part in parts_of((shape[0], shape[1]), spec, side):
        read = extended(image[np.newaxis], spec)[0, part.rows.read, part.cols.read]
        assert read.shape[0] <= limits[0]
        assert read.shape[1] <= limits[1]
        block = rebuilder.rebuild_part(read, part)
        assert (cover[block.rows, block.cols] == -1).all()  # each pixel once
        images[block.rows, block.cols], cover[block.rows, block.cols] = block.images[0], block.cover
        patches += np.count_nonzero(block.kept)
        labels += np.bincount(block.labels, minlength=len(labels))
        assert len(block.patches) == len(block.labels) == np.count_nonzero(block.kept)
    np.testing.assert_array_equal(images, whole.images[0])
    np.testing.assert_array_equal(cover, whole.cover[0])
    assert patches == np.count_nonzero(whole.kept)
    np.testing.assert_array_equal(labels, np.bincount(whole.labels, minlength=len(labels)))


def test_parts_of_any_larger_square_come_together() -> None:
    places = [(part.rows.start, part.cols.start) for part in parts_of((70, 90), PatchSpec(3, 3), 8)]
    assert len(places) == len(set(places)) == 9 * 12
    for side in (16, 32):
        squares = [(top // side, left // side) for top, left in places]
        changes = 1 + sum(a != b for a, b in itertools.pairwise(squares))
        assert changes == len(set(squares))


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("border", BORDERS)
def test_a_large_image_is_rebuilt_as_if_it_were_whole(
    channels: tuple[int, ...],
    border: Literal["valid", "reflect"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = replace(SPEC, border=border)
    image, node = unequal(*channels)[0], as_tree(some_centroids(spec, *channels), spec)["k00002"]
    node.root.attrs["source"] = {"dtype": "uint8", "image_shape": image.shape}
    expected, stack = reconstruct(image, node), np.stack([image, image[::-1]])
    dark = reconstruct(image // 16, node, white=15)
    scores = reconstruction_scores(stack, node)
    monkeypatch.setattr(image_stack, "WHOLE_VALUES", 60)
    monkeypatch.setattr(rebuilding, "BLOCK_VALUES", 64)
    np.testing.assert_array_equal(reconstruct(image, node), expected)
    np.testing.assert_array_equal(reconstruct(image // 16, node, white=15), dark)
    chunks = (2, 7, *stack.shape[2:])
    ways = {
        "numpy": stack,
        "dask": dask.array.from_array(stack, chunks),
        "zarr": zarr.create_array({}, data=stack, chunks=chunks, zarr_format=3),
        "source": ImageSource("large", "train", stack),
        "swapped": stack.astype(stack.dtype.newbyteorder(">")),
    }
    for held in (0, 1 << 20):
        monkeypatch.setattr(image_stack, "HELD_BYTES", held)
        for way, images in ways.items():
            blocks: list[tuple[int, np.ndarray]] = []
            found = reconstruction_scores(
                images, node, on_block=lambda at, one, to=blocks: to.append((at, one.images))
            )
            xarray.testing.assert_allclose(found, scores, rtol=1e-12)
            assert max(part.size for _, part in blocks) <= 64, way
            assert [at for at, _ in blocks] == sorted(at for at, _ in blocks)


def test_what_lies_in_one_chunk_is_read_once(
    by_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_stack, "HELD_BYTES", 0)
    images, read = np.ones((4, 20, 30), np.uint8), []

    def chunk(block_info: dict[None, dict[str, list[tuple[int, int]]]]) -> np.ndarray:
        ((first, stop), *_) = block_info[None]["array-location"]
        read.append(first)
        return images[first:stop]

    lazy = dask.array.map_blocks(chunk, chunks=((2, 2), 20, 30), dtype=np.uint8)
    reconstruction_scores(lazy, as_tree(some_centroids(SPEC), SPEC)["k00002"])
    assert read == [0, 2]


@pytest.mark.parametrize("channels", [(), (3,)])
def test_images_of_several_sizes_are_scored_each_as_by_itself(
    channels: tuple[int, ...], by_parts: None
) -> None:
    images, node = unequal(*channels), as_tree(some_centroids(SPEC, *channels), SPEC)["k00002"]
    source = ImageSource("mixed", "train", ListReader(images, "mixed"))
    scores = reconstruction_scores(source, node)
    for index, image in enumerate(images):
        if index == 2:
            continue
        alone = reconstruction_scores(image[np.newaxis], node).isel(image=0, drop=True)
        xarray.testing.assert_allclose(scores.isel(image=index, drop=True), alone, rtol=1e-12)
    too_small = scores.isel(image=2)
    assert too_small["mse"] == pytest.approx((images[2].astype(float) ** 2).mean())
    assert (too_small["covered"], too_small["patches"]) == (0, 0)
    assert np.isnan(too_small["covered_mse"])
    rebuilt = [np.zeros(image.shape) for image in images]
    for index in (0, 1, 3, 4):
        rebuilt[index] = np.asarray(reconstruct(images[index], node))
    errors = np.concatenate(
        [(image - one).ravel() ** 2 for image, one in zip(images, rebuilt, strict=True)]
    )
    assert overall(scores)["mse"] == pytest.approx(errors.mean())


@pytest.mark.parametrize("border", BORDERS)
def test_a_large_image_is_streamed_to_zarr_in_squares(
    tmp_path: Path, by_parts: None, border: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_writer, "CHUNK_BYTES", 4 * 16 * 16)
    image = np.random.default_rng(0).integers(0, 256, (1, 50, 71), np.uint8)
    np.save(tmp_path / "large.npy", image)
    given = {"dataset": str(tmp_path / "large.npy"), "patch": (3, 4), "border": border}
    folder = learn(tmp_path, (3,), **given)
    out = tmp_path / "out.zarr"
    told = CliRunner().invoke(
        group, ["reconstruct", str(folder), "--k", "3", "--out", str(out), "--json"]
    )
    found = json.loads(told.stdout.splitlines()[-1])
    node = open_dictionaries(folder / "dictionaries.zarr")["k00003"]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(image_stack, "WHOLE_VALUES", 1 << 20)
        expected = np.asarray(reconstruct(image[0], node))  # at once
    opened = xarray.open_zarr(out)["rebuilt"]
    np.testing.assert_array_equal(opened.values, expected[np.newaxis].astype(np.float32))
    array = zarr.open_array(out / "rebuilt", mode="r")
    assert array.chunks == (1, 16, 16)
    assert array.nchunks_initialized == array.nchunks == 4 * 5
    assert found["mse"] == pytest.approx(((image[0] - expected) ** 2).mean())


def test_unequal_images_are_written_each_as_an_array_of_its_own(
    tmp_path: Path, by_parts: None
) -> None:
    (tmp_path / "mixed").mkdir()
    images = unequal()
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"mixed/{index}.png")
    folder = learn(tmp_path / "runs", (3,), dataset=str(tmp_path / "mixed"), patch=(3, 4))
    out = tmp_path / "out.zarr"
    told = CliRunner().invoke(
        group, ["reconstruct", str(folder), "--k", "3", "--out", str(out), "--json"]
    )
    found = json.loads(told.stdout.splitlines()[-1])
    node = open_dictionaries(folder / "dictionaries.zarr")["k00003"]
    opened, squares = xarray.open_zarr(out), 0.0
    assert found["images"] == len(opened) == 5
    for index, image in enumerate(images):
        written = opened[f"rebuilt_{index:07d}"].values
        if index == 2:  # no patch fits into it
            assert not written.any()
        else:
            np.testing.assert_array_equal(written, np.asarray(reconstruct(image, node), np.float32))
        squares += ((image - written.astype(float)) ** 2).sum()
    assert found["mse"] == pytest.approx(squares / sum(image.size for image in images))


def test_memory_does_not_grow_with_the_image() -> None:
    node = as_tree(some_centroids(PatchSpec(5, 5)), PatchSpec(5, 5))["k00002"]
    peaks = {}
    for side in (1100, 3300):
        image = np.zeros((1, side, side), np.uint8)
        image[:] = np.arange(side) % 251
        reconstruction_scores(image[:, :600, :600], node)  # what is compiled and kept is there
        tracemalloc.start()
        reconstruction_scores(image, node)
        peaks[side] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[3300] < 1.1 * peaks[1100] < 100 << 20
