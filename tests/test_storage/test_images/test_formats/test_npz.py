"""Archives of arrays: mapped or unpacked, named, damaged."""

import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given

from storage import InputError
from storage.images.formats.registry import open_path
from storage.images.options import UNSTATED
from tests.npy_files import HEADER, npy_bytes, npy_parts
from tests.test_storage.test_images.test_formats.windows import (
    FAULTS,
    QUICK,
    bend,
    read_or_refuse,
)

STACK = np.random.default_rng(1).integers(0, 9, (7, 20, 33), np.uint16)


def opened(path: Path | str) -> np.ndarray:
    found = open_path(str(path), UNSTATED)
    assert isinstance(found, np.ndarray)
    return found


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_mapped_or_unpacked(tmp_path: Path, save: object, order: str) -> None:
    path = tmp_path / "two.npz"
    assert callable(save)
    save(path, first=np.asarray(STACK, order=order), second=STACK[::-1].astype(">f4"))
    for name, expected in (("first", STACK), ("second", STACK[::-1].astype(">f4"))):
        found = opened(f"{path}::{name}")
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype
        assert isinstance(found, np.memmap) == (save is np.savez)


def test_one_array_needs_no_name_and_several_do(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=STACK)
    np.testing.assert_array_equal(opened(tmp_path / "one.npz"), STACK)
    np.savez(tmp_path / "two.npz", a=STACK, b=STACK)
    with pytest.raises(InputError, match=r"holds 2; arrays in it: a, b; name one, as in .*::a$"):
        opened(tmp_path / "two.npz")
    with pytest.raises(InputError, match="no array 'c' in"):
        opened(f"{tmp_path}/two.npz::c")


def test_gzipped_npy_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "a.npy.gz").write_bytes(gzip.compress(npy_bytes(STACK)))
    np.testing.assert_array_equal(opened(tmp_path / "a.npy.gz"), STACK)


def archive(compression: int) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as made:
        made.writestr("a.npy", npy_bytes(STACK[:2, :5, :5]))
    return stream.getvalue()


BOMB = npy_parts(HEADER.format(descr="|u1", fortran=False, shape="(99999, 99999, 9)"), b"x")


@pytest.mark.parametrize("kind", ["stored", "deflated", "gz"])
@QUICK
@given(faults=FAULTS)
@example(faults=[])
def test_damaged_archives_are_read_or_refused(
    tmp_path: Path, kind: str, faults: list[tuple[str, int, int]]
) -> None:
    stored = {
        "stored": archive(zipfile.ZIP_STORED),
        "deflated": archive(zipfile.ZIP_DEFLATED),
        "gz": gzip.compress(npy_bytes(STACK[:2, :5, :5]), mtime=0),
    }[kind]
    path = tmp_path / ("a.npy.gz" if kind == "gz" else "a.npz")
    path.write_bytes(bend(stored, faults))
    found = read_or_refuse(lambda: opened(path))
    if not faults or (kind != "stored" and found is not None):
        np.testing.assert_array_equal(found, STACK[:2, :5, :5])  # checksums tell


def test_headers_that_lie_and_objects_are_refused(tmp_path: Path) -> None:
    objects = io.BytesIO()
    np.save(objects, np.full((2, 3, 4), None), allow_pickle=True)
    for content in (BOMB, objects.getvalue(), b"", b"PK\3\4", npy_bytes(STACK) + b"x"):
        (tmp_path / "a.npy.gz").write_bytes(gzip.compress(content))
        for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as made:
                made.writestr("a.npy", content)
            for name in ("a.npz", "a.npy.gz"):
                with pytest.raises(InputError, match="is not a whole archive of arrays"):
                    opened(tmp_path / name)
