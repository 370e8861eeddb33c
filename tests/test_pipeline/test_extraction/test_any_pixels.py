"""Which patches are kept of pixels of any range, with and without no data: against a plain loop."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import extract, keep_mask
from pipeline.extraction.patches import cut_patches
from storage import ImageOptions, ImageSource, InputError, PatchSpec, open_patches
from storage.images.pixel_range import PixelRange

TYPES = st.sampled_from(["uint8", "uint16", "int8", "int16", "float32"])


def kept_one_by_one(images: np.ndarray, spec: PatchSpec, levels: PixelRange) -> list[np.ndarray]:
    """The kept patches, one by one in float64."""
    found = []
    for image in images:
        down, across = spec.grid(*image.shape[:2])
        for row in range(down):
            for col in range(across):
                top, left = row * spec.stride, col * spec.stride
                patch = image[top : top + spec.rows, left : left + spec.cols]
                empty = np.isnan(patch) | (patch == levels.nodata)
                values = patch.astype(np.float64) - levels.black
                measure, share = spec.rule
                measured = {
                    "nonblank": values.mean,
                    "all": lambda: np.inf,
                    "std": values.std,
                    "range": lambda values=values: np.ptp(values),
                }[measure]
                if not empty.any() and measured() > float(share) * levels.span + 1e-12:
                    found.append(patch.ravel())
    return found


@given(TYPES, st.data())
def test_kept_patches_are_those_of_a_plain_loop(dtype: str, data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (2, 6, 7, *data.draw(st.sampled_from([(), (3,)])))
    if dtype == "float32":
        images, nodata = rng.integers(0, 9, shape).astype(dtype) / 8, float("nan")
    else:
        reach = np.iinfo(dtype)
        images = rng.integers(max(reach.min, -300), min(reach.max, 700), shape).astype(dtype)
        nodata = float(reach.max)
    sparse = rng.random(shape) < 0.03
    images[sparse] = nodata
    white = None if dtype == "float32" else float(reach.max // data.draw(st.sampled_from([1, 2])))
    source = ImageSource("any", "train", images, ImageOptions("NHWC"[: images.ndim], white, nodata))
    rule = data.draw(st.sampled_from(["nonblank", "nonblank", "all", "std>0.1", "range>0.3"]))
    share = data.draw(st.sampled_from([0, 0.25])) if rule == "nonblank" else 0
    spec = PatchSpec(2, 3, data.draw(st.integers(1, 4)), share, 0, rule)
    expected = kept_one_by_one(images, spec, source.levels)
    found = cut_patches(images, spec, source.levels)
    assert len(found) == len(expected) == keep_mask(images, spec, source.levels).sum()
    np.testing.assert_array_equal(found, np.array(expected, dtype).reshape(found.shape))


def test_a_threshold_goes_by_the_bits_that_are_used(tmp_path: Path) -> None:
    camera = np.random.default_rng(0).integers(0, 4096, (6, 20, 20)).astype(np.uint16)
    found = extract(camera, patch=4, threshold=0.45, out=tmp_path).store
    oracle = kept_one_by_one(camera, found.spec, PixelRange(0, 4095))
    assert 0 < found.n_rows == len(oracle) < 6 * 17 * 17
    with pytest.raises(InputError, match=r"threshold 0.45 keeps none"):
        extract(camera, patch=4, threshold=0.45, out=tmp_path, white=65535)


def test_older_stores_of_16_bits_are_found_again(tmp_path: Path) -> None:
    """Their sources say no range; with a threshold, which goes by it, they are others."""
    camera = np.random.default_rng(0).integers(0, 4096, (6, 20, 20)).astype(np.uint16)
    source = ImageSource("camera", "train", camera)
    described = {name: value for name, value in source.describe().items() if name != "range"}
    from storage.patch_store import store_name

    plain, high = PatchSpec(4, 4), PatchSpec(4, 4, threshold=0.01)
    assert store_name(described, plain) == store_name(source.describe(), plain)
    assert store_name(described, high) != store_name(source.describe(), high)
    first = extract(source, patch=plain, out=tmp_path)
    assert not first.reused
    object.__setattr__(source, "describe", lambda: described)
    assert extract(source, patch=plain, out=tmp_path).reused


def test_signed_pixels_without_data_at_places_are_learned(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).integers(-1000, 3000, (4, 30, 30)).astype(np.int16)
    scan[:, :6] = -32768
    np.save(tmp_path / "scan.npy", scan)
    store = extract(tmp_path / "scan.npy", patch=5, out=tmp_path, nodata=-32768).store
    assert store.n_rows == 4 * 20 * 26
    assert store.dtype == np.int16
    assert store.array[:].min() >= -1000
    assert open_patches(store.path).source["stated"] == {"nodata": -32768}
    assert store.source["range"] == [int(scan[:, 6:].min()), int(scan.max())]
