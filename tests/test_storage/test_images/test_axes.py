"""Layouts: any order of axes, and shapes that are likely of another one."""

import dask.array
import numpy as np
import pytest
import torch
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st

from storage import ImageOptions, ImageSource, InputError, open_images
from storage.images.arrays import array_source

ORDERS = st.sampled_from(["NHWC", "NHW", "HW", "HWC", "WHN", "CNHW", "whcn", "NWHC"])
IMAGES = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)  # NHWC


@given(ORDERS)
def test_every_layout_gives_the_same_images(layout: str) -> None:
    letters = layout.upper()
    taken = IMAGES[tuple(slice(None) if axis in letters else 0 for axis in "NHWC")]
    kept = [axis for axis in "NHWC" if axis in letters]
    given_so = taken.transpose([kept.index(axis) for axis in letters])
    source = ImageSource("any", "train", given_so, ImageOptions(layout))
    expected = taken if "N" in letters else taken[None]
    np.testing.assert_array_equal(source.images, expected)
    # the same images are the same source, whatever their layout was
    assert source.fingerprint == ImageSource("any", "train", expected.copy()).fingerprint


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((50, 3, 32, 32), "NCHW"),
        ((50, 1, 28, 28), "NCHW"),
        ((32, 32, 3, 50), "HWCN"),
        ((96, 96, 50), "HWN"),
        ((40, 60, 3), "HWC"),
        ((40, 60), "HW"),
    ],
)
def test_what_looks_like_another_layout_is_refused_with_it(
    shape: tuple[int, ...], layout: str
) -> None:
    images = np.zeros(shape, np.uint8)
    with pytest.raises(InputError, match=f"looks like {layout}: use layout={layout}"):
        ImageSource("any", "train", images)
    usual = "NHWC"[: len(shape)]
    if len(shape) > 2:  # who says that it is right is believed
        assert ImageSource("any", "train", images, ImageOptions(usual)).images.shape == shape


@pytest.mark.parametrize("shape", [(7, 3, 5), (30, 28, 28), (5, 9, 9, 3), (6, 6, 6), (9, 8, 8, 12)])
def test_usual_shapes_need_no_layout(shape: tuple[int, ...]) -> None:
    assert ImageSource("any", "train", np.ones(shape, np.uint8)).images.shape == shape


@pytest.mark.parametrize("layout", ["NHWW", "NC", "RGB", "", "H"])
def test_what_is_no_layout_is_refused(layout: str) -> None:
    with pytest.raises(InputError, match="use the letters of the axes in their order"):
        ImageOptions(layout)


def test_a_layout_of_other_axes_is_refused() -> None:
    with pytest.raises(InputError, match=r"not of layout NCHW: give a letter for each of its 3"):
        ImageSource("any", "train", np.zeros((2, 8, 8), np.uint8), ImageOptions("NCHW"))


def test_one_image_without_its_axis_is_refused_with_it() -> None:
    with pytest.raises(InputError, match=r"looks like HW: use layout=HW \(or images\[None\]\)$"):
        ImageSource("any", "train", np.zeros((8, 9), np.uint8))


def test_names_of_axes_tell_the_layout() -> None:
    named = xarray.DataArray(np.zeros((3, 20, 30), np.uint8), dims=("band", "y", "x"))
    assert array_source(named).images.shape == (1, 20, 30, 3)
    named = xarray.DataArray(np.zeros((20, 30, 7), np.uint8), dims=("lat", "lon", "time"))
    assert array_source(named).images.shape == (7, 20, 30)


def test_tensors_are_arrays() -> None:
    tensor = torch.from_numpy(IMAGES.astype(np.float32) / 255).requires_grad_()
    np.testing.assert_array_equal(array_source(tensor).images, tensor.detach().numpy())
    np.testing.assert_array_equal(array_source(list(tensor)).read([1])[0], tensor[1].detach())
    assert array_source(tensor.detach().bfloat16()).dtype == np.float32


def test_what_leads_to_arrays_or_tells_no_number_is_refused() -> None:
    dataset = xarray.Dataset({"a": (("n", "y", "x"), IMAGES[..., 0])})
    group = zarr.create_group(zarr.storage.MemoryStore())
    group.create_array("b", data=IMAGES)
    for images, told in ((dataset, "a Dataset .*'a'"), (group, "a Group holds arrays: .*'b'")):
        with pytest.raises(InputError, match=told):
            array_source(images)
    lazy = dask.array.from_array(IMAGES, chunks=1)
    with pytest.raises(InputError, match=r"call compute_chunk_sizes\(\) first"):
        array_source(lazy[lazy[:, 0, 0, 0] > 0])


def test_a_mapped_file_of_any_layout_is_not_read_into_memory(tmp_path: object) -> None:
    path = f"{tmp_path}/first.npy"
    np.save(path, np.arange(2 * 3 * 40 * 50, dtype=np.uint16).reshape(2, 3, 40, 50))
    source = open_images(path, options=ImageOptions("NCHW"))
    assert source.resident_bytes == 0
    np.testing.assert_array_equal(source.read(slice(1, 2)), np.load(path)[1:].transpose(0, 2, 3, 1))
