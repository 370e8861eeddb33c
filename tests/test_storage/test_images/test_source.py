import os
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from storage import ImageOptions, ImageSource, InputError, open_images
from storage.images import embedded
from storage.images.array_reader import ListReader
from storage.images.reader import blocks_in_order
from tests.idx_files import write_idx
from tests.npy_files import npy_bytes
from tests.programs import run_python


def test_digits_fill_the_grey_scale_and_split_by_writer() -> None:
    train, test = open_images("digits"), open_images("digits", "test")
    assert train.images.shape == (1500, 8, 8)
    assert test.images.shape == (297, 8, 8)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert train.fingerprint != test.fingerprint


def test_the_digits_are_those_of_scikit_learn_without_its_import() -> None:
    program = (
        "import sys\n"
        "from storage import open_images, open_labels\n"
        "found = [open_images('digits', split).fingerprint for split in ('train', 'test')]\n"
        "open_labels('digits')\n"
        "print('sklearn' in sys.modules, *found)\n"
    )
    assert run_python("-c", program).stdout.split() == [
        "False",
        "fb0244031db859e4856533ae0ad0b3e3fe3f13afeaaca8bad2713c6426ec3293",
        "ff90a8cf64a8ca7609222ec8e0c652b82d63dcdb8994c23d8b48a0052d058434",
    ]


@pytest.mark.parametrize("package", [None, "json"])
def test_digits_that_are_not_there_are_refused(
    monkeypatch: pytest.MonkeyPatch, package: str | None
) -> None:
    embedded._table.cache_clear()
    found = find_spec(package) if package else None
    monkeypatch.setattr(embedded, "find_spec", lambda _: found)
    with pytest.raises(InputError, match="install"):
        open_images("digits")


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 41])
def test_sources_have_names_that_files_can_have(name: str) -> None:
    with pytest.raises(InputError, match="images cannot be called"):
        ImageSource(name, "train", np.zeros((2, 3, 3), np.uint8))


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
    assert int(run_python("-c", program, str(path)).stdout) < 100_000  # kilobytes, of 300,000


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
        (np.ones((2, 8, 8), np.complex64), "holds complex64"),
        (np.full((2, 8, 8), None), "not a whole .npy"),  # would have to be unpickled
    ],
)
def test_arrays_that_are_not_images_are_refused(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        open_images(str(tmp_path / "bad.npy"))


def test_images_of_one_bit_are_black_and_white(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).random((3, 8, 9)) < 0.5
    np.save(tmp_path / "bits.npy", pixels)
    source = open_images(str(tmp_path / "bits.npy"))
    assert source.resident_bytes == 0  # mapped still
    np.testing.assert_array_equal(source.read(slice(None)), pixels.astype(np.uint8))
    assert (source.levels.black, source.levels.white) == (0, 1)


def test_unknown_names_and_splits_are_refused(tmp_path: Path, strokes_file: Path) -> None:
    with pytest.raises(
        InputError, match=r"no data set 'minst': did you mean mnist\? Or use digits, photos, mnist"
    ):
        open_images("minst")
    with pytest.raises(InputError, match="has no test split"):
        open_images(str(strokes_file), "test")


NAMES = {
    "a b.npy": "a_b",
    "..npy": "npy",
    ".hidden.npy": "hidden",
    "-x.npy": "-x",
    "line\nbreak.npy": "line_break",
    "\x1b[31m.npy": "_31m",
    "'\"<i>.npy": "_i_",
    "no text \udcff.npy": "no_text_",
    "Größe.npy": "Größe",
    "x" * 251 + ".npy": "x" * 40,
    "数" * 80 + ".npy": "数" * 40,
    "x..npy": "x",
}


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_give_names_of_stores(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(npy_bytes(np.ones((2, 3, 4), np.uint8)))
    assert open_images(str(path)).name == NAMES[name]


@pytest.mark.parametrize(
    "name", ["", "nul\0", "x" * 300, "y/" * 3000, "a\nb", "\udcff", "~nobody/x"]
)
def test_names_that_no_file_has_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as caught:
        open_images(f"{tmp_path}/{name}")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    with pytest.raises(InputError, match="is not a file"):
        open_images(str(tmp_path / "pipe.npy"))


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = write_idx(tmp_path / "locked", np.ones((2, 3, 4), np.uint8))
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read anything")
    with pytest.raises(InputError, match="Permission denied"):
        open_images(str(path))


def test_the_photographs_are_two_colour_images_with_test_rows_on_request() -> None:
    photos = open_images("photos")
    assert photos.images.shape == (2, 427, 640, 3)
    with pytest.raises(InputError, match=r"no test split: use train, or hold some out"):
        open_images("photos", "test")
    lower = open_images("photos", "test", options=ImageOptions(heldout=0.1))
    np.testing.assert_array_equal(lower.read(slice(None)), photos.images[:, 384:])
    with pytest.raises(InputError, match="digits has test images of its own"):
        open_images("digits", "test", options=ImageOptions(heldout=0.1))


@pytest.mark.parametrize("together", [1, 200, 1 << 20])
@pytest.mark.parametrize("block", [16, 100, 1 << 20])
def test_blocks_are_all_pixels_in_order(
    monkeypatch: pytest.MonkeyPatch, together: int, block: int
) -> None:
    monkeypatch.setattr("storage.images.reader._TOGETHER", together)
    monkeypatch.setattr("storage.images.reader.BLOCK_BYTES", block)
    sizes = [(5, 7), (5, 7), (7, 5), (1, 1), *[(5, 7)] * 9, (12, 3)]
    images = [np.full(size, number, np.uint8) for number, size in enumerate(sizes)]
    found: list[list[np.ndarray]] = [[] for _ in images]
    for first, top, pixels in blocks_in_order(ListReader(images, "any")):
        for index, part in enumerate(pixels, first):
            assert top == sum(map(len, found[index]))
            found[index].append(part)
    for image, parts in zip(images, found, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), image)
