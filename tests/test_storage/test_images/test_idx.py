import gzip
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

from storage.errors import InputError
from storage.images.formats.idx import read_idx
from tests.idx_files import idx_bytes, write_idx


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


@pytest.mark.skipif(sys.platform != "linux", reason="address space is capped on Linux alone")
def test_what_does_not_fit_into_memory_is_refused(tmp_path: Path) -> None:
    # The file's own length, sparse, makes a claim of 64 GB believable.
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"\0\0\x08\3" + struct.pack(">3I", 1 << 16, 1 << 10, 1 << 10))
    path = tmp_path / "large.gz"
    body = packer.compress(np.random.default_rng(0).bytes(1 << 20))  # beyond what is read ahead
    path.write_bytes(head + body + packer.flush(zlib.Z_SYNC_FLUSH))
    os.truncate(path, 1 << 27)
    program = (
        "import resource, sys\n"
        "from storage import InputError, open_images\n"
        "import numpy\n"
        "resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))\n"
        "try:\n"
        "    open_images(sys.argv[1])\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert "gunzip it first" in done.stdout
