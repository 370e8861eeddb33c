import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage import ImageSource, InputError, open_images
from tests.idx_files import write_idx


def test_digits_fill_the_grey_scale_and_split_by_writer() -> None:
    train, test = open_images("digits"), open_images("digits", "test")
    assert train.images.shape == (1500, 8, 8)
    assert test.images.shape == (297, 8, 8)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.fingerprint != test.fingerprint


def test_fingerprint_is_of_the_pixels_not_of_the_packing(
    strokes: np.ndarray, tmp_path: Path
) -> None:
    plain = open_images(str(write_idx(tmp_path / "a", strokes)))
    packed = open_images(str(write_idx(tmp_path / "b.gz", strokes)))
    np.save(tmp_path / "c.npy", strokes)
    array = open_images(str(tmp_path / "c.npy"))
    assert plain.fingerprint == packed.fingerprint == array.fingerprint

    changed = strokes.copy()
    changed[-1, -1, -1] ^= 1
    flat = strokes.reshape(len(strokes), 10, 12)
    for other in (changed, flat, strokes.astype(np.uint16)):
        assert ImageSource("x", "train", other).fingerprint != plain.fingerprint


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes on Linux alone")
def test_mapped_images_do_not_count_as_resident(tmp_path: Path) -> None:
    path = tmp_path / "large.npy"
    large = np.lib.format.open_memmap(path, "w+", np.uint8, (300, 1000, 1000))
    large[-1] = 1
    del large
    program = (
        "import resource, sys\n"
        "from storage import open_images\n"
        "source = open_images(sys.argv[1])\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "source.fingerprint\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 100_000  # kilobytes, of 300,000


@pytest.mark.parametrize("name", ["mapped.npy", "unpacked.gz"])
def test_picked_images_are_those_of_their_numbers(
    strokes: np.ndarray, tmp_path: Path, name: str
) -> None:
    path = tmp_path / name
    np.save(path, strokes) if path.suffix == ".npy" else write_idx(path, strokes)
    source = open_images(str(path))
    for which in (np.random.default_rng(0).permutation(60), np.array([59, 0, 0]), np.arange(0)):
        picked = source.read(which)
        np.testing.assert_array_equal(picked, strokes[which])
        picked[:] = 1  # a copy
    np.testing.assert_array_equal(source.images, strokes)


def test_colour_images_are_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "colour.npy", np.ones((2, 8, 9, 3), np.float32))
    assert open_images(str(tmp_path / "colour.npy")).images.shape == (2, 8, 9, 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((8, 8), np.uint8), "has the shape"),
        (np.ones((0, 8, 8), np.uint8), "has the shape"),
        (np.ones((2, 8, 8), np.int64), "holds int64"),
        (np.ones((2, 8, 8), bool), "holds bool"),
        (np.full((2, 8, 8), None), "not a whole .npy"),  # would have to be unpickled
    ],
)
def test_arrays_that_are_not_images_are_refused(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        open_images(str(tmp_path / "bad.npy"))


def test_truncated_npy_is_refused(tmp_path: Path, strokes: np.ndarray) -> None:
    path = tmp_path / "cut.npy"
    np.save(path, strokes)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match=r"not a whole \.npy"):
        open_images(str(path))


def test_lying_npy_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lie.NPY"
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 63, 2, 2)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match=r"not a whole \.npy"):
        open_images(str(path))


def test_unknown_names_and_splits_are_refused(tmp_path: Path, strokes_file: Path) -> None:
    with pytest.raises(InputError, match="no data set 'minst': use digits, mnist"):
        open_images("minst")
    with pytest.raises(InputError, match="has no test split"):
        open_images(str(strokes_file), "test")
    with pytest.raises(InputError, match="is not a file"):
        open_images(str(tmp_path))
