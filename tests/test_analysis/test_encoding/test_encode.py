"""Codes of images, and images of codes, in memory and lazily."""

import pickle
from pathlib import Path
from typing import Any, Literal

import dask.array
import numpy as np
import pytest
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import decode, encode, reconstruct
from analysis.encoding import decoding, encoding
from analysis.reconstruction import overlap
from storage import (
    ImageSource,
    InputError,
    IntegrityError,
    PatchSpec,
    open_dictionaries,
    open_images,
)
from storage.codes.code_store import code_dtype, no_code
from storage.images.arrays import array_source
from tests.oracles import reflected, squared_distances
from tests.test_analysis.test_reconstruction.test_reconstruct import as_tree, digit, some_centroids

SPEC = PatchSpec(3, 2, stride=2, threshold=0.2)
BORDERS: list[Literal["valid", "reflect"]] = ["valid", "reflect"]


def node_of(spec: PatchSpec, *channels: int, scale: float = 1) -> xarray.DataTree:
    return as_tree(scale * some_centroids(spec, *channels), spec).children["k00002"]


def codes_by_loops(image: np.ndarray, centroids: np.ndarray, spec: PatchSpec) -> np.ndarray:
    """Position by position, in float64; -1 where the patch is not kept."""
    down, across = spec.grid(*image.shape[:2])
    if spec.border == "reflect":
        (image,) = reflected(image[np.newaxis], spec.rows, spec.cols)
    found = np.full((down, across), -1)
    for row in range(down):
        for col in range(across):
            top, left = row * spec.stride, col * spec.stride
            patch = image[top : top + spec.rows, left : left + spec.cols].reshape(1, -1)
            if patch.sum(dtype=np.float64) > spec.threshold * 255 * patch.size:
                flat = centroids.reshape(len(centroids), -1)
                found[row, col] = np.argmin(squared_distances(patch, flat))
    return found


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("border", BORDERS)
def test_codes_are_the_nearest_centroids_of_the_kept_patches(
    border: Literal["valid", "reflect"], channels: tuple[int, ...]
) -> None:
    spec = PatchSpec(3, 2, stride=2, threshold=0.2, border=border)
    images = np.stack([digit(*channels, seed=seed) for seed in range(3)])
    node = node_of(spec, *channels)
    codes = encode(images, node)
    assert codes.dtype == np.uint16
    assert codes.attrs["no_code"] == 65535
    expected = [codes_by_loops(image, np.asarray(node["centroids"]), spec) for image in images]
    assert (np.array(expected) == -1).any()
    assert (np.array(expected) > 0).any()
    found = codes.values.astype(np.int64)
    found[found == 65535] = -1
    np.testing.assert_array_equal(found, expected)


def test_coordinates_are_the_pixels_at_which_patches_begin() -> None:
    codes = encode(digit()[np.newaxis], node_of(SPEC))
    np.testing.assert_array_equal(codes["row"], [0, 2, 4, 6, 8])
    np.testing.assert_array_equal(codes["col"], [0, 2, 4, 6, 8, 10])
    extended = encode(digit(), node_of(PatchSpec(3, 2, stride=4, border="reflect")))
    assert extended.dims == ("row", "col")
    np.testing.assert_array_equal(extended["row"], [-1, 3, 7])
    np.testing.assert_array_equal(extended["col"], [-1, 3, 7, 11])


def test_the_type_leaves_room_for_no_code() -> None:
    assert code_dtype(65_534) == np.uint16
    assert code_dtype(65_535) == np.uint32
    assert no_code(np.dtype(np.uint32)) == 2**32 - 1


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, ...], PatchSpec, str]:
    """Shape of some images, how they are cut, and their type."""
    rows, cols = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    size = draw(st.integers(rows, 20)), draw(st.integers(cols, 20))
    threshold, border = draw(st.sampled_from([0.0, 0.45])), draw(st.sampled_from(BORDERS))
    spec = PatchSpec(rows, cols, draw(st.integers(1, 7)), threshold, border=border)
    shape = (draw(st.integers(1, 4)), *size, *draw(st.sampled_from([(), (3,)])))
    return shape, spec, draw(st.sampled_from(["uint8", "uint16", "float32"]))


@settings(max_examples=150)
@given(cases(), st.sampled_from([4, 16, 64, 1 << 19]), st.sampled_from([1, 5, 1 << 19]))
def test_decoded_codes_are_the_reconstruction_bit_for_bit(
    case: tuple[tuple[int, ...], PatchSpec, str], chunk: int, most: int
) -> None:
    shape, spec, dtype = case
    top = 1.0 if dtype == "float32" else np.iinfo(dtype).max
    images = (np.random.default_rng(0).random(shape) * top).astype(dtype)
    images[:, : shape[1] // 2, : shape[2] // 2] = 0
    node = node_of(spec, *shape[3:], scale=top / 255)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "CHUNK_CODES", chunk)
        patch.setattr(encoding, "LEAST_POSITIONS", 1)
        patch.setattr(encoding, "PATCH_BYTES", most * images.itemsize * spec.dim())
        if chunk < 64:
            patch.setattr(decoding, "WHOLE_VALUES", 60)
            patch.setattr(decoding, "SIDE", 4)
        codes = encode(images, node).compute(scheduler="synchronous")
        np.testing.assert_array_equal(decode(codes, node), reconstruct(images, node))


def test_large_images_are_cut_into_squares_of_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "CHUNK_CODES", 1 << 8)
    images = np.random.default_rng(0).integers(0, 256, (2, 70, 40), np.uint8)
    lazy = encode(images, node_of(PatchSpec(3, 3)))
    assert lazy.chunks == ((1, 1), (16, 16, 16, 16, 4), (16, 16, 6))
    assert isinstance(lazy.data, dask.array.Array)
    assert len(lazy.data.dask) == 2 * 5 * 3  # one task, one chunk
    part = lazy[1, 20:30, 5:9].values  # and it alone is computed
    np.testing.assert_array_equal(part, lazy.values[1, 20:30, 5:9])


def test_images_of_any_kind_have_the_same_codes(tmp_path: Path) -> None:
    images = np.stack([digit(seed=seed) for seed in range(5)])
    node, kinds = node_of(SPEC), dict[str, Any]()
    kinds["dask"] = dask.array.from_array(images, chunks=(2, 4, 13))
    kinds["zarr"] = zarr.open_array(tmp_path / "a.zarr", mode="w", shape=(5, 11, 13), dtype="u1")
    kinds["zarr"][:] = images
    kinds["source"] = ImageSource("images", "train", images)
    kinds["turned"] = xarray.DataArray(images.transpose(1, 0, 2), dims=("row", "image", "col"))
    expected = encode(images, node).values
    for name, kind in kinds.items():
        np.testing.assert_array_equal(encode(kind, node).values, expected, name)
    one = encode(xarray.DataArray(images[3].T, dims=("col", "row")), node)
    np.testing.assert_array_equal(one.values, expected[3])


def test_work_is_sent_to_other_processes_without_its_tables() -> None:
    codes = encode(digit()[np.newaxis], node_of(SPEC))
    before = codes.values  # the tables are made
    again = pickle.loads(pickle.dumps(codes))
    np.testing.assert_array_equal(again.values, before)


def test_decoding_is_lazy_where_codes_are_and_takes_some_of_the_images() -> None:
    images = np.stack([digit(3, seed=seed) for seed in range(5)])
    node = node_of(SPEC, 3)
    lazy, expected = encode(images, node), reconstruct(images, node)
    found = decode(lazy.chunk(image=2), node)
    assert isinstance(found.data, dask.array.Array)
    assert found.dims == ("image", "row", "col", "channel")
    np.testing.assert_array_equal(found, expected)
    some = decode(lazy[[3, 1]].compute(), node)
    np.testing.assert_array_equal(some["image"], [3, 1])
    np.testing.assert_array_equal(some, np.asarray(expected)[[3, 1]])
    np.testing.assert_array_equal(decode(lazy[2].compute(), node), np.asarray(expected)[2])


def test_what_does_not_fit_is_refused() -> None:
    node, image = node_of(SPEC), digit()
    for images, message in [
        (digit(3)[np.newaxis], r"do not fit the dictionary"),
        (image.astype(np.int64), "int64"),
        (image[:2, :2], "larger than the images"),
        ([image], "do not fit"),
        (np.full((4, 4), np.nan, np.float32), "float"),
    ]:
        with pytest.raises(InputError, match=message):
            encode(images, node).compute()
    with pytest.raises(InputError, match="several sizes"):
        encode(array_source([image, image[:5]]), node)


def test_images_of_another_range_or_type_than_the_dictionary_knows(
    digits_folder: Path,
) -> None:
    node = open_dictionaries(digits_folder / "dictionaries.zarr").children["k00012"]
    images = open_images("digits", "test").images
    assert isinstance(images, np.ndarray)
    with pytest.raises(InputError, match="rescale"):
        encode(images // 16, node)
    with pytest.raises(InputError, match="rescale"):
        encode(images.astype(np.uint16), node)
    doubled = encode(images.astype(np.uint16) * 4, node, white=1020)
    np.testing.assert_array_equal(doubled.values, encode(images, node).values)


def test_axes_of_codes_go_by_their_names() -> None:
    """With as many images as positions each way, their lengths tell nothing."""
    images, node = np.stack([digit()[:7, :7], digit(seed=1)[:7, :7]] * 2), node_of(PatchSpec(5, 5))
    codes = encode(images[:3], node).compute()
    assert codes.shape == (3, 3, 3)
    turned = codes.transpose("col", "image", "row")
    xarray.testing.assert_identical(decode(turned, node), decode(codes, node))
    xarray.testing.assert_identical(decode(codes[1].T, node), decode(codes[1], node))
    with pytest.raises(InputError, match=r"axes image, row where image, row, col are"):
        decode(codes[:, :, 0], node)


def test_codes_that_cannot_be_decoded_are_refused() -> None:
    node = node_of(SPEC)
    codes = encode(digit()[np.newaxis], node).compute()
    with pytest.raises(InputError, match="do not say their"):
        decode(codes.drop_attrs(), node)
    with pytest.raises(InputError, match="not float64"):
        decode(codes.astype(np.float64), node)
    with pytest.raises(InputError, match="not all of images of 11 by 13"):
        decode(codes[:, :2], node)
    with pytest.raises(InputError, match="hold 900 where numbers below"):
        decode(codes.where(codes == 65535, 900).astype(np.uint16).assign_attrs(codes.attrs), node)
    with pytest.raises(InputError, match=f"hold {len(node['centroids'])} where numbers below"):
        decode(xarray.full_like(codes, len(node["centroids"])), node)
    other = node_of(SPEC, scale=1.5)
    with pytest.raises(IntegrityError, match="is not the one of K"):
        decode(codes, other)


def test_images_do_not_depend_on_how_many_are_decoded_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, node = np.stack([digit(seed=seed) for seed in range(7)]), node_of(SPEC)
    codes = encode(images, node).compute()
    expected = decode(codes, node)
    monkeypatch.setattr(overlap, "BLOCK_VALUES", 1)
    np.testing.assert_array_equal(decode(codes, node), expected)
