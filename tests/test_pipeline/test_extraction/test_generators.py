"""Images that are yielded one by one are drained into a file, which is gone in the end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from pipeline import extract
from storage import InputError, PatchSpec
from storage.layout import PARTIAL
from tests.process_trees import run_measured
from tests.test_pipeline.test_extraction.test_tiled import check

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(1, 4000, (6, 20, 24, 3)).astype(np.uint16)
RAGGED = [RNG.integers(1, 255, (9 + i, 30 - 2 * i)).astype(np.uint8) for i in range(7)]
SPEC = PatchSpec(4, 4, 2)


@pytest.mark.parametrize("images", [COLOUR, RAGGED], ids=["of one size", "of many"])
@pytest.mark.parametrize("scheduler", ["", "processes:1"])
def test_the_store_is_that_of_the_same_images_at_once(
    tmp_path: Path, images: Any, scheduler: str
) -> None:
    given = (image for image in images)
    store = extract(given, count=len(images), patch=SPEC, out=tmp_path, scheduler=scheduler).store
    check(store, list(images))
    found = extract(images, patch=SPEC, out=tmp_path)
    assert (found.store.path, found.reused) == (store.path, True)
    assert not [*tmp_path.rglob(f"*{PARTIAL}")]


def test_axes_that_have_names_and_masked_pixels_are_taken(tmp_path: Path) -> None:
    turned = (xarray.DataArray(image.transpose(2, 1, 0), dims=("c", "x", "y")) for image in COLOUR)
    store = extract(turned, count=6, patch=SPEC, out=tmp_path).store
    check(store, list(COLOUR))
    masked = (np.ma.masked_less(image, 20) for image in RAGGED)
    found = extract(masked, count=7, patch=SPEC, out=tmp_path, nodata=0).store
    whole = [np.where(image < 20, 0, image).astype(np.uint8) for image in RAGGED]
    assert found.path == extract(whole, patch=SPEC, out=tmp_path, nodata=0).store.path


def broken(after: int) -> Iterator[np.ndarray]:
    """Raises once it has given some images."""
    yield from RAGGED[:after]
    raise RuntimeError("the camera is gone")


@pytest.mark.parametrize(
    ("images", "count", "message"),
    [
        (lambda: iter(RAGGED), 8, "the images are 7, fewer than count=8: state"),
        (lambda: iter(RAGGED), 6, "the images are more than count=6: state"),
        (lambda: iter([]), 6, "the images are 0, fewer"),
        (lambda: iter(RAGGED), None, "have a number: give it as count=1000"),
        (lambda: iter(RAGGED), 0, "have a number"),
        (lambda: iter([RAGGED[0], COLOUR[0]]), 2, r"image 1 of the images is uint16 \(20, 24, 3\)"),
        (lambda: iter([RAGGED[0], RAGGED[1][:0]]), 2, r"image 1 of the images is uint8 \(0, 28\)"),
        (lambda: iter([1, 2]), 2, r"image 0 of the images is int64 \(\) where"),
        (lambda: iter([[[1, 2]], broken(0)]), 2, "image 0 of the images is int64 .*, of uint8,"),
        (lambda: iter(RAGGED), 10**18, "the images are 7, fewer than count=10"),
        (lambda: "digits", 2, "count is of images that are yielded one by one: leave it out"),
        (lambda: 5, 2, "count is of images"),
    ],
)
def test_other_numbers_and_kinds_are_refused_and_leave_nothing(
    tmp_path: Path, images: Any, count: int | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        extract(images(), count=count, patch=SPEC, out=tmp_path / "runs")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    with pytest.raises(InputError, match="leave out layout"):
        extract(iter(RAGGED), count=7, patch=SPEC, out=tmp_path, layout="HW")


def test_what_a_generator_raises_is_passed_on(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the camera is gone"):
        extract(broken(3), count=7, patch=SPEC, out=tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


PROGRAM = """
import sys
import numpy as np
from pipeline import extract
block = np.random.default_rng(0).integers(1, 9, (512, 512)).astype(np.uint8)
count = int(sys.argv[2])
images = (np.roll(block, number) for number in range(count))
store = extract(images, count=count, patch=16, stride=64, out=sys.argv[1], memory="400MiB").store
print(store.n_rows)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_their_number(tmp_path: Path) -> None:
    peaks = []
    for count in (800, 2600):
        ran = run_measured(["-c", PROGRAM, str(tmp_path / str(count)), str(count)])
        assert ran.out.split() == [str(64 * count)], ran.err
        peaks.append(ran.peak)
    assert peaks[1] < min(300 << 20, peaks[0] + (40 << 20)), peaks
