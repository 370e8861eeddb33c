"""Masks: patches are kept where all of their pixels are set, or their centre."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import storage.tiles
from pipeline import extract
from pipeline.extraction.patches import allowed_windows
from storage import InputError, PatchSpec
from tests.oracles import reflected

IMAGES = np.random.default_rng(0).integers(1, 255, (3, 14, 17)).astype(np.uint8)
MASKS = np.random.default_rng(1).random((3, 14, 17)) < 0.8


@settings(max_examples=40)
@given(
    st.builds(PatchSpec, st.integers(1, 5), st.integers(1, 5), st.integers(1, 6)),
    st.sampled_from(["all", "centre"]),
)
def test_windows_are_allowed_one_by_one(spec: PatchSpec, by: str) -> None:
    found = allowed_windows(MASKS, spec, by)
    down, across = spec.grid(14, 17)
    assert found.shape == (3, down, across)
    for image, row, col in np.ndindex(found.shape):
        top, left = row * spec.stride, col * spec.stride
        part = MASKS[image, top : top + spec.rows, left : left + spec.cols]
        right = part.all() if by == "all" else part[spec.rows // 2, spec.cols // 2]
        assert found[image, row, col] == right


@pytest.mark.parametrize("border", ["valid", "reflect"])
@pytest.mark.parametrize("by", ["all", "centre"])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("masks", [MASKS, MASKS[:1]])
def test_a_store_holds_what_its_mask_allows(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    border: str,
    by: str,
    tiled: bool,
    masks: np.ndarray,
) -> None:
    if tiled:
        monkeypatch.setattr(storage.tiles, "WHOLE_BYTES", 2000)
        monkeypatch.setattr(storage.tiles, "TILE_BYTES", 2000)
    np.save(tmp_path / "images.npy", IMAGES)
    np.save(tmp_path / "mask.npy", masks.astype(np.uint8) * 255)
    given = {"patch": 3, "stride": 2, "out": tmp_path / "runs", "border": border}
    store = extract(
        tmp_path / "images.npy", **given, mask=str(tmp_path / "mask.npy"), mask_by=by
    ).store
    assert (store.tile is not None) == tiled
    images, windows = IMAGES, (3, 6, 8)
    if border == "reflect":
        images, masks, windows = reflected(IMAGES, 3, 3), reflected(masks, 3, 3), (3, 7, 9)
    allowed = np.broadcast_to(allowed_windows(masks, store.spec.within, by), windows)
    expected = {
        images[image, 2 * row : 2 * row + 3, 2 * col : 2 * col + 3].tobytes()
        for image, row, col in zip(*np.nonzero(allowed), strict=True)
    }
    assert {row.tobytes() for row in store.array[:]} == expected
    assert store.n_rows == allowed.sum()
    assert extract(tmp_path / "images.npy", **given).store.path != store.path


def test_masks_follow_held_out_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 255, (20, 8, 9)).astype(np.uint8)
    np.save(tmp_path / "images.npy", images)
    np.save(tmp_path / "mask.npy", (images > 60).astype(np.uint8))
    given = {"patch": 1, "out": tmp_path / "runs", "heldout": 0.25}
    for split in ("train", "test"):
        store = extract(
            tmp_path / "images.npy", split=split, mask=str(tmp_path / "mask.npy"), **given
        ).store
        assert store.array[:].min() > 60


def test_one_mask_for_all_needs_no_axis_of_images(tmp_path: Path) -> None:
    np.save(tmp_path / "flat.npy", MASKS[0])
    np.save(tmp_path / "one.npy", MASKS[:1])
    flat, one = (
        extract(IMAGES, patch=3, out=tmp_path / f"{name}.runs", mask=str(tmp_path / name)).store
        for name in ("flat.npy", "one.npy")
    )
    assert flat.n_rows == one.n_rows < 3 * 12 * 15
    np.testing.assert_array_equal(flat.array[:], one.array[:])
    np.save(tmp_path / "row.npy", MASKS[0, 0])
    with pytest.raises(InputError, match=r"row.npy has the shape \(17,\)"):
        extract(IMAGES, patch=3, out=tmp_path, mask=str(tmp_path / "row.npy"))


def test_where_an_image_and_its_mask_are_empty_both_may_say_that_0_is_no_data(
    tmp_path: Path,
) -> None:
    image, tags = np.stack([IMAGES[0]] * 3, axis=2), [(42113, 2, 0, "0", True)]
    image[:5], image[9, 9, 0] = 0, 0  # of the one colour only one channel
    tifffile.imwrite(tmp_path / "photo.tif", image, photometric="rgb", extratags=tags)
    mask = image.any(axis=2).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", mask, extratags=tags)
    with pytest.raises(InputError, match=r"give nodata=0 to .*, or a mask of what is"):
        extract(tmp_path / "photo.tif", patch=3, out=tmp_path)
    found = extract(tmp_path / "photo.tif", patch=3, out=tmp_path, mask=str(tmp_path / "mask.tif"))
    assert found.store.n_rows == 7 * 15
    np.save(tmp_path / "mask.npy", mask)
    again = extract(tmp_path / "photo.tif", patch=3, out=tmp_path, mask=str(tmp_path / "mask.npy"))
    assert again.store.path == found.store.path


def test_masks_of_other_sizes_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", IMAGES)
    for wrong in (MASKS[:2], MASKS[:, :9]):
        np.save(tmp_path / "mask.npy", wrong.astype(np.uint8))
        with pytest.raises(InputError, match=r"the mask .* are expected, or one for all"):
            extract(tmp_path / "images.npy", patch=3, out=tmp_path, mask=str(tmp_path / "mask.npy"))
    with pytest.raises(InputError, match="no data set"):
        extract(tmp_path / "images.npy", patch=3, out=tmp_path, mask=str(tmp_path / "none.npy"))
