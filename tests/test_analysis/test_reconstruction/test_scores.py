"""Scores of rebuilt images against plain loops, and by hand."""

import math
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pytest
import xarray
import zarr

import pipeline.runtime.memory
from analysis import by_class, reconstruct, reconstruction_scores
from analysis.reconstruction import overlap as rebuilding
from analysis.reconstruction.scores import overall
from storage import ImageSource, InputError, MemoryBudgetError, PatchSpec
from tests.oracles import rebuilt_by_loops
from tests.test_analysis.test_reconstruction.test_reconstruct import as_tree, some_centroids

SPEC = PatchSpec(3, 2, stride=2, threshold=0.11)  # no sum of whole levels is at the limit


def node_of(centroids: np.ndarray, spec: PatchSpec) -> xarray.DataTree:
    return as_tree(centroids, spec)["k00002"]


def in_dtype(images: np.ndarray, dtype: str, channels: tuple[int, ...]) -> np.ndarray:
    """Images with channels, their levels stretched to the type's range."""
    scale = {"uint8": 1, "uint16": 257, "float32": 1 / 255, "float64": 1 / 255}[dtype]
    shades = images[(..., *(np.newaxis,) * len(channels))] * np.ones(channels)
    return (shades * scale).astype(dtype)


def ways_to_give(images: np.ndarray, folder: Path) -> dict[str, Any]:
    """Ways of handing over the same images, (n, height, width)."""
    axes, chunks = ("image", "row", "col"), (25, *images.shape[1:])
    chunked = dask.array.from_array(images, chunks=chunks)
    stored = zarr.create_array(folder / "images.zarr", data=images, chunks=chunks, zarr_format=3)
    return {
        "source": ImageSource("strokes", "train", images),
        "zarr": stored,
        "dask": chunked,
        "xarray": xarray.DataArray(images, dims=axes).transpose(*axes[::-1]),
        "lazy xarray": xarray.DataArray(chunked, dims=axes),
        "big endian": images.astype(images.dtype.newbyteorder(">")),
    }


@pytest.mark.parametrize("channels", [(), (2,)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
def test_scores_agree_with_loops(
    strokes: np.ndarray, dtype: str, channels: tuple[int, ...]
) -> None:
    images = in_dtype(strokes, dtype, channels)
    peak = 1.0 if dtype.startswith("float") else float(np.iinfo(dtype).max)
    centroids = some_centroids(SPEC, *channels) * np.float32(peak / 255)
    scores = reconstruction_scores(images, node_of(centroids, SPEC))
    assert scores.sizes == {"image": 60}
    assert scores.attrs == {"k": 5, "stride": 2, "peak": peak}
    level = SPEC.threshold * peak * SPEC.dim(*channels)
    for index, image in enumerate(images):
        rebuilt, cover = rebuilt_by_loops(image, centroids, 2, level)
        errors = (image.astype(np.float64) - rebuilt) ** 2
        one = {name: scores[name].values[index] for name in scores}
        assert one["mse"] == pytest.approx(errors.mean(), rel=1e-9)
        assert one["covered"] == np.mean(cover > 0)
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 2), axis=(0, 1))[::2, ::2]
        kept = windows.reshape(*windows.shape[:2], -1).astype(np.float64).sum(axis=2) > level
        assert one["patches"] == kept.sum()
        if not cover.any():
            assert math.isnan(one["covered_mse"])
            assert math.isnan(one["cover"])
            continue
        assert one["covered_mse"] == pytest.approx(errors[cover > 0].mean(), rel=1e-9)
        assert one["cover"] == pytest.approx(cover[cover > 0].mean())
        assert one["psnr"] == pytest.approx(10 * math.log10(peak**2 / errors.mean()))
    assert not scores["patches"].values[7]
    assert np.isinf(scores["psnr"].values[7])  # a blank image, rebuilt without error


def test_scores_do_not_depend_on_where_images_lie_nor_on_the_block(
    strokes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = node_of(some_centroids(SPEC), SPEC)
    expected = reconstruction_scores(strokes, node)
    ways = ways_to_give(strokes, tmp_path)
    for values in (1, 7 * 120, 1 << 19):
        monkeypatch.setattr(rebuilding, "BLOCK_VALUES", values)
        for way, images in ways.items():
            found = reconstruction_scores(images, node)
            xarray.testing.assert_identical(found, expected)
            assert found.sizes["image"] == 60, way


def test_lazy_chunks_are_read_once_each(
    strokes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "BLOCK_VALUES", 7 * 120)
    read = []

    def chunk(block_info: Any = None) -> np.ndarray:
        ((first, stop), *_) = block_info[None]["array-location"]
        read.append(first)
        return strokes[first:stop]

    lazy = dask.array.map_blocks(chunk, chunks=((25, 25, 10), 12, 10), dtype=np.uint8)
    node = node_of(some_centroids(SPEC), SPEC)
    reconstruction_scores(lazy, node)
    assert sorted(set(read)) == [0, 25, 50]
    assert len(read) == 3


def test_blocks_are_those_that_reconstruct_gives_in_order(
    strokes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rebuilding, "BLOCK_VALUES", 7 * 120)
    node, blocks = node_of(some_centroids(SPEC), SPEC), []
    reconstruction_scores(
        strokes, node, stride=3, on_block=lambda at, one: blocks.append((at, one.images))
    )
    assert [at for at, _ in blocks] == list(np.cumsum([0, *(len(b) for _, b in blocks[:-1])]))
    assert len(blocks) > 3
    together = np.concatenate([images for _, images in blocks])
    np.testing.assert_array_equal(together, reconstruct(strokes, node, stride=3))


def test_by_class_and_overall_by_hand() -> None:
    # One pixel a patch, one centroid of 10: errors are 0, 4 and 100; the blank image has none.
    images = np.array([10, 12, 0, 20], np.uint8).reshape(4, 1, 1)
    node = node_of(np.array([[[10]]], np.float32), PatchSpec(1, 1))
    scores = reconstruction_scores(images, node, labels=[3, 3, 0, 0])
    np.testing.assert_array_equal(scores["mse"], [0, 4, 0, 100])
    np.testing.assert_array_equal(scores["label"], [3, 3, 0, 0])
    classes = by_class(scores, tuple("0123"))
    np.testing.assert_array_equal(classes["label"], [0, 3])
    np.testing.assert_array_equal(classes["name"], ["0", "3"])
    np.testing.assert_array_equal(classes["images"], [2, 2])
    np.testing.assert_array_equal(classes["mse"], [50, 2])
    np.testing.assert_allclose(classes["psnr"], 10 * np.log10(255**2 / np.array([50, 2])))
    assert np.isinf(classes["mean_image_psnr"]).all()  # each has an image without error
    totals = overall(scores)
    assert totals["mse"] == 26
    assert totals["covered_mse"] == pytest.approx(104 / 3)
    assert totals["psnr"] == pytest.approx(10 * math.log10(255**2 / 26))
    alone = by_class(scores.isel(image=[1, 3]))
    np.testing.assert_allclose(alone["mean_image_psnr"], 10 * np.log10(255**2 / np.array([100, 4])))
    assert "name" not in alone.coords


def test_nothing_kept_at_all_has_no_covered_error() -> None:
    node = node_of(np.ones((1, 2, 2), np.float32), PatchSpec(2, 2))
    totals = overall(reconstruction_scores(np.zeros((2, 4, 4), np.uint8), node))
    assert math.isnan(totals["covered_mse"])
    assert (totals["mse"], totals["psnr"]) == (0, math.inf)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0] * 59, r"shape \(59,\) do not fit 60"), ([0.5] * 60, "labels of type float64")],
)
def test_labels_that_do_not_fit_are_refused(
    strokes: np.ndarray, labels: list[float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        reconstruction_scores(strokes, node_of(some_centroids(SPEC), SPEC), labels=labels)


def test_classes_need_labels_and_each_a_name(strokes: np.ndarray) -> None:
    node = node_of(some_centroids(SPEC), SPEC)
    with pytest.raises(InputError, match="have no classes"):
        by_class(reconstruction_scores(strokes, node))
    with pytest.raises(InputError, match="classes 2 to 2 have no names"):
        by_class(reconstruction_scores(strokes, node, labels=[2] * 60), ("0", "1"))


@pytest.mark.parametrize(
    "images",
    [np.ones((5, 5), np.uint8), np.ones((0, 5, 5), np.uint8), np.ones((2, 5, 5, 3), np.uint8)],
)
def test_what_is_no_stack_of_images_is_refused(images: np.ndarray) -> None:
    with pytest.raises(InputError, match="do not fit the dictionary"):
        reconstruction_scores(images, node_of(some_centroids(SPEC), SPEC))


def test_a_cap_that_does_not_hold_a_chunk_of_images_is_refused_with_both_numbers() -> None:
    node = node_of(some_centroids(SPEC), SPEC)
    huge = dask.array.zeros((2, 60_000, 60_000), chunks=(1, 60_000, 60_000), dtype=np.uint8)
    with pytest.raises(MemoryBudgetError, match=r"needs .* GiB of memory, more than the cap of 2"):
        reconstruction_scores(huge, node, stride=1, memory="2GiB")
    with pytest.raises(InputError, match="memory"):
        reconstruction_scores(huge, node, memory="much")


def test_parts_grow_with_the_cap_whatever_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.runtime.memory, "resident", lambda: 0)
    engine = staticmethod(lambda k, dim, rows, **_: 100 * rows)
    monkeypatch.setattr(rebuilding.NearestCentroids, "projected_bytes", engine)
    dtype, spec = np.dtype(np.uint8), PatchSpec(8, 8)
    for shape in ((3000, 4000), (40_000, 30_000)):
        sides = [rebuilding.part_within(shape, dtype, spec, 100, n << 20, 0) for n in (90, 2000)]
        assert 1 < sides[0] < sides[1] == rebuilding.part_side(shape, dtype, spec) == 512
    assert rebuilding.part_side((3000, 4000, 3), dtype, spec) == 256
    assert rebuilding.part_side((3000, 4000), dtype, PatchSpec(64, 64)) == 64
    with pytest.raises(MemoryBudgetError):
        rebuilding.part_within((3000, 4000), dtype, spec, 100, 1 << 20, 0)


def test_blocks_grow_with_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline.runtime.memory, "resident", lambda: 0)
    # What the engine asks for hangs on whether its kernels are compiled already.
    engine = staticmethod(lambda k, dim, rows, **_: 100 * rows)
    monkeypatch.setattr(rebuilding.NearestCentroids, "projected_bytes", engine)
    shape, dtype = (200, 200), np.dtype(np.uint8)
    sizes = [
        rebuilding.images_at_once(shape, dtype, PatchSpec(5, 5), 100, cap << 20)
        for cap in (120, 4000)
    ]
    assert 1 <= sizes[0] < sizes[1] == rebuilding.BLOCK_VALUES // 200**2
