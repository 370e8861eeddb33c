"""Image files that lie, are cut, or hold what they should not: an array or an error of ours."""

import gzip
import io
import math
import os
import pickle
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storage import InputError, open_images
from storage.images.axes import arranged
from storage.images.formats.idx import IDX_DTYPES
from storage.images.formats.packed import MAX_GZIP_RATIO
from storage.images.pixel_range import PIXEL_DTYPES
from tests.idx_files import CODES, idx_bytes
from tests.npy_files import HEADER, npy_bytes, npy_parts

QUICK = settings(
    max_examples=125,  # test_fuzzing.py tries many more
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
OWN_BYTES = 4 << 20  # what reading a header may take, whatever the file: parsers and buffers
IMAGES = np.arange(2 * 3 * 4).reshape(2, 3, 4)
SIZES = st.sampled_from([0, 1, 2, 3, 1 << 16, 1 << 31, (1 << 32) - 1]) | st.integers(0, 300)


@contextmanager
def no_pickle() -> Iterator[None]:
    """Reaching for pickle fails the test, whatever becomes of the exception."""
    reached: list[str] = []

    def trap(name: str) -> Any:
        def refuse(*_: object, **__: object) -> None:
            reached.append(name)
            raise AssertionError(f"pickle.{name} was reached")

        return refuse

    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "loads", "Unpickler"):
            patch.setattr(pickle, name, trap(name))
        yield
    assert reached == []


def read_or_refuse(path: Path, content: bytes, justified: int) -> np.ndarray | None:
    """The images of a file of this content, or None where it is refused in one line of ours.

    justified: bytes that reading it may take beside OWN_BYTES.
    """
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with no_pickle():
            source = open_images(str(path))
        peak = tracemalloc.get_traced_memory()[1]
        assert len(source.fingerprint) == 64
        return source.read(slice(None))
    except InputError as error:
        peak = tracemalloc.get_traced_memory()[1]
        message = str(error)
        assert message.isprintable()
        assert len(message) < 600 + len(str(path))
        return None
    finally:
        tracemalloc.stop()
        assert peak <= justified + OWN_BYTES


def images_only(array: np.ndarray | None) -> np.ndarray | None:
    """What may be returned of what a file holds."""
    if array is None or array.ndim not in (3, 4) or not array.size:
        return None
    try:
        arranged(array, None, "it")
    except InputError:  # the shape of another layout
        return None
    return array if array.dtype.name in PIXEL_DTYPES else None


def assert_same(found: np.ndarray | None, expected: np.ndarray | None) -> None:
    if expected is None:
        assert found is None
    else:
        assert found is not None
        assert found.dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found, expected)


def idx_oracle(content: bytes) -> np.ndarray | None:
    """What an IDX file holds, slowly: everything unpacked first."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, zlib.error, gzip.BadGzipFile):
            return None
    if content[:2] != b"\0\0" or len(content) < 4 or content[2] not in IDX_DTYPES:
        return None
    header = 4 + 4 * content[3]
    if not 1 <= content[3] <= 4 or len(content) < header:
        return None
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    dtype = IDX_DTYPES[content[2]]
    if 0 in shape or len(content) != header + math.prod(shape) * dtype.itemsize:
        return None
    return np.frombuffer(content, dtype, offset=header).reshape(shape)


@st.composite
def bent(draw: st.DrawFn, whole: bytes) -> bytes:
    """The content with up to three faults; often none."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(0, 3))):
        fault = draw(st.sampled_from(["cut", "longer", "byte"]))
        if fault == "cut":
            del content[draw(st.integers(0, len(content))) :]
        elif fault == "longer":
            content += draw(st.binary(min_size=1, max_size=8))
        elif content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


@st.composite
def idx_files(draw: st.DrawFn) -> bytes:
    shape = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    dtype = draw(st.sampled_from([*CODES, "uint8", "uint8", "float32"]))
    content = bytearray(idx_bytes(np.arange(math.prod(shape)).reshape(shape).astype(dtype)))
    if draw(st.booleans()):  # a lie about a dimension
        at = 4 + 4 * draw(st.integers(0, len(shape) - 1))
        content[at : at + 4] = struct.pack(">I", draw(SIZES))
    plain = draw(bent(bytes(content)))
    packing = draw(st.sampled_from(["plain", "one", "two members", "padded"]))
    if packing == "plain":
        return plain
    half = len(plain) // 2 if packing == "two members" else len(plain)
    packed = gzip.compress(plain[:half], mtime=0)
    if packing == "two members":
        packed += gzip.compress(plain[half:], mtime=0)
    return draw(bent(packed + bytes(3 * (packing == "padded"))))


@QUICK
@given(content=idx_files())
@example(content=gzip.compress(b"\0\0\x08\3" + struct.pack(">3I", 1 << 20, 1 << 10, 1 << 10)))
def test_idx_files_are_read_right_or_refused(tmp_path: Path, content: bytes) -> None:
    packed = content[:2] == b"\x1f\x8b"
    found = read_or_refuse(
        tmp_path / "images", content, MAX_GZIP_RATIO * len(content) if packed else 0
    )
    assert_same(found, images_only(idx_oracle(content)))


def npy_oracle(content: bytes) -> np.ndarray | None:
    """What numpy itself reads from the stream, if that is all of it."""
    stream = io.BytesIO(content)
    try:
        array = np.lib.format.read_array(stream, allow_pickle=False)
    except Exception:  # whatever numpy says of it
        return None
    return None if stream.read(1) else array


@st.composite
def npy_files(draw: st.DrawFn) -> bytes:
    descr = draw(
        st.sampled_from(
            ["|u1", "<u2", ">u2", "<f4", ">f8", "|O", "<i8", "<c8", "|b1", "<U3", "|V0", "?!", 5]
            + ["u1"] * 5
            + [[("a", "|u1")], None]
        )
    )
    shape = draw(
        st.just((2, 3, 4))
        | st.tuples(*[st.sampled_from([-3, -1, 0, 1, 2, 3, 1 << 32, 1 << 63, 1 << 80])] * 3)
        | st.lists(st.integers(1, 4), max_size=5).map(tuple)
    )
    itemsize = int(str(descr)[-1]) if str(descr)[-1].isdigit() else 1
    length = min(math.prod(map(abs, shape)) * itemsize, 400)
    header = HEADER.format(descr=descr, fortran=draw(st.booleans()), shape=shape)
    version = draw(st.sampled_from([(1, 0), (2, 0), (3, 0), (9, 9)]))
    claimed = draw(st.none() | st.none() | st.sampled_from([0, 7, 65535, (1 << 32) - 1]))
    if version[0] == 1 and claimed is not None:
        claimed = min(claimed, 65535)
    return draw(
        bent(npy_parts(header, bytes(range(1, 201)) * 2, version, claimed)[: -400 + length or None])
    )


@QUICK
@given(content=npy_files())
def test_npy_files_are_read_right_or_refused(tmp_path: Path, content: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numpy, when the oracle reads a bent header
        expected = images_only(npy_oracle(content))
    found = read_or_refuse(tmp_path / "images.npy", content, 0)
    assert_same(found, expected)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", ["u1", ">u2", "<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_whole_npy_files_are_read(
    tmp_path: Path, version: tuple[int, int], dtype: str, order: Any
) -> None:
    array = np.asarray(IMAGES.astype(dtype), order=order)
    found = read_or_refuse(tmp_path / "images.npy", npy_bytes(array, version), 0)
    assert_same(found, array)


HEADERS = {
    "claims 4 GiB": npy_parts("{}", b"", (2, 0), (1 << 32) - 1),
    "nested brackets": npy_parts("(" * 5000, b""),
    "nested signs": npy_parts("-" * 9000 + "1", b""),
    "long sum": npy_parts("1" + "+1" * 3000, b""),
    "mixed keys": npy_parts("{1: 2, 'a': 3}", b""),
    "unhashable key": npy_parts("{[]: 1}", b""),
    "truth as size": npy_parts(
        HEADER.format(descr="|u1", fortran=False, shape="(True, 24, 1)"), b"x" * 24
    ),
    "escapes": npy_parts(HEADER.format(descr="|u1", fortran=False, shape="'\\d'"), b"x" * 24),
    "type of several": npy_parts(
        HEADER.format(descr="|,1", fortran=False, shape="(2, 3, 4)"), b"x" * 24
    ),
    "longer": npy_bytes(IMAGES.astype(np.uint8)) + b"x",
}


@pytest.mark.parametrize("fault", HEADERS)
def test_npy_headers_that_upset_parsers_are_refused(tmp_path: Path, fault: str) -> None:
    assert read_or_refuse(tmp_path / "images.npy", HEADERS[fault], 0) is None


def test_pixels_that_are_arrays_are_an_axis_more(tmp_path: Path) -> None:
    # numpy's reader refuses what its mapper takes
    content = npy_parts(HEADER.format(descr=("|u1", (4,)), fortran=False, shape=(2, 3)), b"x" * 24)
    expected = np.full((2, 3, 4), ord("x"), np.uint8)
    assert_same(read_or_refuse(tmp_path / "images.npy", content, 0), expected)


def test_headers_as_python_2_wrote_them_are_read(tmp_path: Path) -> None:
    header = HEADER.format(descr="|u1", fortran=False, shape="(2L, 3L, 4L)") + "\n"
    content = npy_parts(header, bytes(range(24)))
    assert_same(read_or_refuse(tmp_path / "images.npy", content, 0), IMAGES.astype(np.uint8))


def test_a_zip_archive_by_the_name_of_npy_is_refused(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez(stream, images=IMAGES.astype(np.uint8))
    assert read_or_refuse(tmp_path / "images.npy", stream.getvalue(), 0) is None


class Bomb:
    """Leaves a folder behind when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["images.npy", "images", "images.gz"])
@pytest.mark.parametrize("form", ["bare", "object array", "array of bytes"])
def test_nothing_is_unpickled(tmp_path: Path, name: str, form: str) -> None:
    payload = pickle.dumps(Bomb(tmp_path / "exploded"))
    stream = io.BytesIO()
    np.save(stream, np.full((2, 3, 4), Bomb(tmp_path / "exploded")), allow_pickle=True)
    contents = {
        "bare": payload,
        "object array": stream.getvalue(),
        "array of bytes": npy_bytes(np.zeros((1, 1, 1), np.uint8))[:-1] + payload,
    }
    assert read_or_refuse(tmp_path / name, contents[form], 0) is None
    assert not (tmp_path / "exploded").exists()
    with pytest.raises(FileExistsError):  # it would have gone off
        pickle.loads(payload), pickle.loads(payload)
