import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.lib.stride_tricks import sliding_window_view

from pipeline.extraction.patches import count_patches, cut_patches, keep_mask
from storage import InputError, PatchSpec
from tests.oracles import cut_by_loops, reflected

LARGEST = {"uint8": 255, "uint16": 65535, "float32": 1}


@st.composite
def images_and_specs(draw: st.DrawFn) -> tuple[np.ndarray, PatchSpec]:
    shape = [draw(st.integers(1, 4)), draw(st.integers(1, 8)), draw(st.integers(1, 8))]
    if draw(st.booleans()):
        shape.append(draw(st.integers(1, 3)))
    dtype = np.dtype(draw(st.sampled_from(sorted(LARGEST))))
    elements = (
        st.floats(0, 1, width=32).map(lambda x: round(x * 8) / 8)
        if dtype.kind == "f"
        else st.sampled_from([0, 0, 1, 100, int(np.iinfo(dtype).max)])
    )
    images = draw(arrays(dtype, tuple(shape), elements=elements))
    spec = PatchSpec(
        draw(st.integers(1, shape[1])),
        draw(st.integers(1, shape[2])),
        draw(st.integers(1, 4)),
        draw(st.sampled_from([0.0, 0.1, 0.25, 0.5])),
    )
    return images, spec


@settings(max_examples=300)
@given(images_and_specs())
def test_cutting_equals_nested_loops(case: tuple[np.ndarray, PatchSpec]) -> None:
    images, spec = case
    dim = spec.dim(int(np.prod(images.shape[3:])))
    level = LARGEST[images.dtype.name] * dim * spec.threshold
    expected = cut_by_loops(images, spec.rows, spec.cols, spec.stride, level)
    found = cut_patches(images, spec)
    assert found.dtype == images.dtype
    np.testing.assert_array_equal(found, expected)
    counts = count_patches(images, spec)
    assert counts.sum() == len(expected)
    assert [len(cut_patches(image[None], spec)) for image in images] == counts.tolist()


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize("stride", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [(1, 1), (3, 3), (4, 4), (5, 2), (2, 6), (9, 11)])
def test_a_reflected_border_is_that_of_numpy(
    size: tuple[int, int], stride: int, channels: tuple[int, ...]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 9, 11, *channels)).astype(np.uint8)
    windows = sliding_window_view(reflected(images, *size), size, axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    assert windows.shape[1:3] == (-(-9 // stride), -(-11 // stride))
    expected = np.moveaxis(windows, 3, -1) if channels else windows  # rows, columns, channels
    spec = PatchSpec(*size, stride, keep="all", border="reflect")
    found = cut_patches(images, spec)
    np.testing.assert_array_equal(found, expected.reshape(found.shape))
    assert count_patches(images, spec).sum() == len(found)
    # their centres are the image's own pixels
    centres = found.reshape(-1, *size, *channels)[:, size[0] // 2, size[1] // 2]
    np.testing.assert_array_equal(centres, images[:, ::stride, ::stride].reshape(-1, *channels))


def test_images_smaller_than_a_patch_are_refused_whatever_the_border() -> None:
    with pytest.raises(InputError, match="patch 5x3 is larger than the images"):
        cut_patches(np.ones((1, 4, 9), np.uint8), PatchSpec(5, 3, border="reflect"))


def test_threshold_is_a_share_of_the_largest_sum() -> None:
    image = np.full((1, 5, 5), 51, np.uint8)  # 0.2 of 255
    assert keep_mask(image, PatchSpec(5, 5, threshold=0.19)).all()
    assert not keep_mask(image, PatchSpec(5, 5, threshold=0.2)).any()  # above, not at
    image[0, 0, 0] += 1
    assert keep_mask(image, PatchSpec(5, 5, threshold=0.2)).all()


def test_sums_do_not_overflow() -> None:
    image = np.full((1, 40, 40), 65535, np.uint16)
    assert keep_mask(image, PatchSpec(40, 40, threshold=0.999)).all()


@pytest.mark.parametrize("value", [-0.5, 1.5, np.nan, np.inf])
def test_floats_that_the_threshold_cannot_judge_are_refused(value: float) -> None:
    images = np.ones((1, 3, 3), np.float32)
    images[0, 1, 1] = value
    with pytest.raises(InputError, match="scale them"):
        count_patches(images, PatchSpec(2, 2))
