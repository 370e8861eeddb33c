from pathlib import Path

import numpy as np
import pytest

from analysis.paper import drawing
from analysis.paper.plates import RebuiltRow, rebuilt_plate, sample_plate
from analysis.pixels import PixelScale, reduced
from analysis.samples import typical_image
from pipeline.extraction import Extraction, extract
from storage import PatchSpec


def test_reduced_images_are_block_means() -> None:
    image = np.arange(5 * 4, dtype=np.uint8).reshape(5, 4)
    assert reduced(image, 1) is image
    assert reduced(image, 2).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    colour = np.stack([image, image + 1], axis=2)
    assert reduced(colour, 2)[..., 1].tolist() == [[3.5, 5.5], [11.5, 13.5]]


@pytest.mark.parametrize("size", [8, 28, 256, 1000])
def test_images_of_any_size_lie_side_by_side(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    placed: list[tuple[int, int, int, int]] = []
    original = drawing.Board.image

    def note(self: drawing.Board, pixels: np.ndarray, left: int, top: int, **rest: bool) -> None:
        placed.append((left, top, left + pixels.shape[1], top + pixels.shape[0]))
        original(self, pixels, left, top, **rest)

    monkeypatch.setattr(drawing.Board, "image", note)
    image, pixels = np.zeros((size, size), np.uint8), PixelScale.of(np.dtype(np.uint8))
    sample_plate({"training": [image] * 10, "test": [image] * 10}, pixels)
    assert len(placed) == 20
    check(placed)
    placed.clear()
    rebuilt_plate([RebuiltRow("a", image, dict.fromkeys(range(1, 8), (image, 1.0)))] * 2, pixels)
    assert len(placed) == 16
    check(placed)


def check(placed: list[tuple[int, int, int, int]]) -> None:
    for index, (left, top, right, bottom) in enumerate(placed):
        assert 0 <= left < right <= drawing.dots(drawing.WIDTH)
        for other in placed[index + 1 :]:
            apart = right < other[0] or other[2] < left or bottom < other[1] or other[3] < top
            assert apart


def test_the_typical_image_has_patches(tmp_path: Path) -> None:
    images = np.zeros((9, 6, 6), np.uint8)
    images[2, :, :3] = images[4] = images[7, 0, 0] = 200  # most keep nothing
    np.save(tmp_path / "few.npy", images)
    extraction = Extraction(str(tmp_path / "few.npy"), "train", tmp_path, PatchSpec(2, 2))
    store, *_ = extract(extraction, tmp_path)
    assert typical_image(store) == 2  # of 1, 20 and 25 patches the middle one
