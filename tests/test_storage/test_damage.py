"""Every bit of a patch store flipped, every length cut: verify and readers notice all of it."""

import shutil
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from pipeline.extraction.extract import extract
from storage import IntegrityError, PatchSpec, PatchStore, open_patches
from storage.errors import DamageError
from storage.integrity import chunk_fault, read_checksums, write_seal
from storage.strict_store import open_strict
from storage.verification import Finding, verify_patches
from tests.damage import DAMAGES, bits_of, files_of, flip_bit, refuses, unnoticed

pytestmark = pytest.mark.usefixtures("chunks_read_by")
PATCH_FILES = (
    "zarr.json",
    "patches/zarr.json",
    "offsets/zarr.json",
    "order/zarr.json",
    "offsets/c/0",
    "order/c/0",
    "patches/c/0/0",
    "patches/c/1/0",  # the last, and not full
)


def build(folder: Path, images: np.ndarray, chunk_rows: int) -> PatchStore:
    np.save(folder / "images.npy", images)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * chunk_rows)
        found = extract(str(folder / "images.npy"), patch=PatchSpec(3, 3), out=folder)
    return found.store


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    """A store of 12 rows in two chunks; tests mend what they break, or copy it."""
    images = np.random.default_rng(0).integers(1, 256, (4, 3, 5), np.uint8)
    store = build(tmp_path_factory.mktemp("built"), images, 8)
    assert (store.n_rows, store.n_chunks) == (12, 2)
    assert sorted(files_of(store.path)) == sorted(PATCH_FILES)
    return store


@pytest.fixture
def copied(built: PatchStore, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built.path, tmp_path / built.path.name))


def read_all(path: Path) -> None:
    store = open_patches(path)
    for index in range(store.n_chunks):
        store.read_chunk(index)
    assert store.offsets[-1] == store.n_rows
    assert len(store.order) == store.source["images"]


def bad(path: Path) -> list[Finding]:
    return [finding for finding in verify_patches(path) if finding]


def test_faults_of_a_chunk_have_their_own_words() -> None:
    whole = b"bytes" + google_crc32c.value(b"bytes").to_bytes(4, "little")
    assert chunk_fault(whole, None) is None
    assert chunk_fault(whole, whole[-4:].hex()) is None
    assert chunk_fault(None, None) == "is missing"
    assert chunk_fault(b"", None) == "is empty"
    assert chunk_fault(bytes(4), None) == "is truncated to 4 bytes"  # CRC32C of nothing is 0
    assert chunk_fault(whole[:-1], None) == "fails its checksum"
    for stated in ("", "01234567"):
        assert chunk_fault(whole, stated) == "is not the one that was written there"


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", PATCH_FILES)
def test_flipped_bits_and_cut_files_of_a_patch_store_are_noticed(
    built: PatchStore, file: str, step: int
) -> None:
    path = built.path

    def notices() -> bool:
        return refuses(read_all, path) and any(verify_patches(path))

    assert unnoticed(path / file, step, notices) == []
    assert not bad(path)


def test_a_flipped_bit_is_damage_whatever_it_says(built: PatchStore) -> None:
    # even where it is in the kind or the schema version: extract mends damage, and refuses others
    file = built.path / "zarr.json"
    for bit in range(bits_of(file)):
        flip_bit(file, bit)
        with pytest.raises(DamageError):
            open_patches(built.path)
        flip_bit(file, bit)


def test_a_store_made_from_a_strict_one_is_as_strict(built: PatchStore) -> None:
    strict = open_strict(built.path, built.checksums, "remedy")
    again = strict.with_read_only(True)
    assert (again.stated, again.remedy) == (built.checksums, "remedy")


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("file", PATCH_FILES)
def test_verify_names_the_file_and_nothing_else(copied: Path, file: str, damage: str) -> None:
    DAMAGES[damage](copied / file, np.random.default_rng(len(file)))
    assert refuses(read_all, copied)
    (finding,) = bad(copied)
    if file.startswith("patches/c/"):
        assert finding.chunk == int(file.split("/")[2])
    else:
        assert finding.chunk == -1
    if not file.endswith("zarr.json"):
        assert f"{copied}/{file.split('/')[0]}" in finding.reason


def test_chunks_that_changed_places_or_stores_are_noticed(
    built: PatchStore, tmp_path: Path
) -> None:
    other = build(tmp_path, np.random.default_rng(1).integers(1, 256, (8, 4, 4), np.uint8), 16)
    copy = Path(shutil.copytree(other.path, tmp_path / "swapped.zarr"))
    assert not bad(copy)
    shutil.copy(other.path / "patches/c/0/0", copy / "patches/c/1/0")
    assert [finding.chunk for finding in bad(copy)] == [1]
    shutil.copy(built.path / "patches/c/0/0", copy / "patches/c/1/0")
    with pytest.raises(IntegrityError, match="is not the one that was written there"):
        open_patches(copy).array[:]
    # metadata of another store, whole too
    for name in ("zarr.json", "patches/zarr.json", "offsets/zarr.json"):
        copy = Path(shutil.copytree(other.path, tmp_path / f"{name.replace('/', '-')}.zarr"))
        shutil.copy(built.path / name, copy / name)
        assert refuses(read_all, copy)


def test_foreign_files_are_named(copied: Path) -> None:
    (copied / "patches" / "c" / "7").mkdir()
    (copied / "patches" / "c" / "7" / "0").write_bytes(b"a chunk beyond the end")
    (copied / "notes.txt").touch()
    assert [(finding.chunk, finding.reason.split()[0]) for finding in bad(copied)] == [
        (-1, f"{copied}/notes.txt"),
        (-1, f"{copied}/patches/c/7/0"),
    ]
    read_all(copied)


def test_a_seal_can_be_made_anew(copied: Path) -> None:
    before = (copied / "zarr.json").read_bytes()
    write_seal(copied, read_checksums(copied))
    assert (copied / "zarr.json").read_bytes() == before
    assert sorted(files_of(copied)) == sorted(PATCH_FILES)
