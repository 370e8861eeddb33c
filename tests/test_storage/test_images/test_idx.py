import gzip
import os
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from storage import open_images
from storage.errors import InputError
from storage.images.formats.idx import read_idx
from tests.idx_files import idx_bytes, write_idx
from tests.npy_files import npy_bytes
from tests.process_trees import run_measured


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_round_trip(tmp_path: Path, suffix: str, dtype: str) -> None:
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(dtype)
    found = read_idx(write_idx(tmp_path / f"images{suffix}", array))
    np.testing.assert_array_equal(found, array)
    assert found.dtype.newbyteorder("=") == array.dtype


def test_plain_file_is_mapped_not_read(tmp_path: Path) -> None:
    found = read_idx(write_idx(tmp_path / "images", np.ones((2, 3, 4), np.uint8)))
    assert isinstance(found, np.memmap)


WHOLE = idx_bytes(np.ones((2, 3, 4), np.uint8))
WRONG = {
    "nothing": (b"", "not an IDX file"),
    "other magic": (b"PK\3\4" + WHOLE[4:], "not an IDX file"),
    "unknown type": (b"\0\0\7\3" + WHOLE[4:], "not an IDX file"),
    "no dimensions": (b"\0\0\x08\0" + WHOLE[4:], "0 dimensions"),
    "many dimensions": (b"\0\0\x08\xff" + WHOLE[4:], "255 dimensions"),
    "cut in the header": (WHOLE[:9], "within its header"),
    "empty axis": (b"\0\0\x08\1" + struct.pack(">I", 0), "holds nothing"),
}
LENGTH = r"has \d+ bytes where its header says 40|ends after 23 of 24|goes on after its 24"
WRONG |= {"cut": (WHOLE[:-1], LENGTH), "longer": (WHOLE + b"x", LENGTH)}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_is_named(tmp_path: Path, fault: str, packed: bool) -> None:
    content, message = WRONG[fault]
    path = tmp_path / "bad"
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(InputError, match=message):
        read_idx(path)


def test_damaged_gzip_and_missing_file_are_named(tmp_path: Path) -> None:
    path = write_idx(tmp_path / "images.gz", np.ones((20, 30, 40), np.uint8))
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="damaged gzip file"):
        read_idx(path)
    with pytest.raises(InputError, match="cannot read"):
        read_idx(tmp_path / "absent")


def test_what_has_no_room_on_the_disk_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The file's own length, sparse, makes a claim of 64 GB believable.
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"\0\0\x08\3" + struct.pack(">3I", 1 << 16, 1 << 10, 1 << 10))
    path = tmp_path / "large.gz"
    body = packer.compress(np.random.default_rng(0).bytes(1 << 20))  # beyond what is read ahead
    path.write_bytes(head + body + packer.flush(zlib.Z_SYNC_FLUSH))
    os.truncate(path, 1 << 27)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 35))
    with pytest.raises(InputError, match=r"no room in .* 68719476736 bytes of .*: set TMPDIR"):
        read_idx(path)


@pytest.fixture
def kept_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small arrays are unpacked as large ones are."""
    monkeypatch.setattr("storage.images.formats.packed.MOST_IN_MEMORY", 1000)


def packed_files(folder: Path, array: np.ndarray) -> list[Path]:
    """The array in each kind of file that is unpacked."""
    write_idx(folder / "a.gz", array)
    (folder / "a.npy.gz").write_bytes(gzip.compress(npy_bytes(np.asfortranarray(array))))
    np.savez_compressed(folder / "a.npz", array)
    return [folder / "a.gz", folder / "a.npy.gz", folder / "a.npz"]


@pytest.mark.usefixtures("kept_in_files")
def test_large_packed_files_are_mapped_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = np.random.default_rng(0).integers(-999, 999, (20, 8, 9)).astype(np.int16)
    (tmp_path / "scratch").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    for path in packed_files(tmp_path, array):
        source = open_images(str(path))
        assert source.resident_bytes == 0
        assert source.where == str(path)
        np.testing.assert_array_equal(source.read(slice(None)), array)
        assert not any((tmp_path / "scratch").iterdir())  # nor after a kill


@pytest.mark.usefixtures("kept_in_files")
@pytest.mark.parametrize("cut", [12, 1500])
def test_damage_in_large_packed_files_is_named(tmp_path: Path, cut: int) -> None:
    array = np.random.default_rng(0).integers(-999, 999, (20, 8, 9)).astype(np.int16)
    for path in packed_files(tmp_path, array):
        whole = path.read_bytes()
        for content in (whole[:-cut], whole[:1000] + bytes(9) + whole[1009:]):
            path.write_bytes(content)
            with pytest.raises(InputError, match=rf"^{path} is (not|a damaged)"):
                open_images(str(path))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
@pytest.mark.usefixtures("kept_in_files")
def test_a_disk_that_is_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = lambda **_: open("/dev/full", "rb+", buffering=0)  # noqa: E731, SIM115
    monkeypatch.setattr("tempfile.TemporaryFile", full)
    for path in packed_files(tmp_path, np.zeros((99, 8, 9), np.int16)):
        with pytest.raises(InputError, match=rf"^no room in .* bytes of {path}: set TMPDIR"):
            open_images(str(path))


LARGE = (600, 1024, 1024)  # 600 MiB


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["", "processes:2"])
def test_memory_of_large_packed_files(tmp_path: Path, scheduler: str) -> None:
    block = np.random.default_rng(0).integers(1, 9, LARGE[1:]).astype(np.uint8)
    with gzip.open(tmp_path / "large.gz", "wb", compresslevel=1) as file:
        file.write(b"\0\0\x08\3" + struct.pack(">3I", *LARGE))
        for index in range(LARGE[0]):
            file.write(np.roll(block, index).data)
    call = "import sys; from pipeline.command_line import group, run; run(group)"
    cap = 1200 if scheduler else 400
    options = f"--patch 16 --stride 64 --memory {cap}MiB --out {tmp_path}/runs".split()
    options += ["--dataset", f"{tmp_path}/large.gz", "--scheduler", scheduler]
    ran = run_measured(["-c", call, "extract", *options])
    assert ran.code == 0, ran.err
    assert "153,600" in ran.out
    assert ran.peak < (cap << 20 if scheduler else 300 << 20)
