"""Every bit of a store flipped, every length cut: verify and readers notice all of it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from pipeline.extraction.extract import Extraction, extract
from storage import IntegrityError, PatchSpec, PatchStore, open_dictionaries, open_patches
from storage.dictionary_store import (
    HISTORY,
    Dictionary,
    check_dictionaries,
    create_dictionaries,
    finished_dictionaries,
    read_centroids,
    write_dictionary,
)
from storage.errors import DamageError
from storage.integrity import chunk_fault, read_checksums, write_seal
from storage.strict_store import open_strict
from storage.verification import Finding, verify_dictionaries, verify_patches
from tests.damage import DAMAGES, bits_of, files_of, flip_bit, restore

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
        found = extract(
            Extraction(str(folder / "images.npy"), "train", folder, PatchSpec(3, 3)), folder
        )
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


def refuses(read: Callable[[Path], object], path: Path) -> bool:
    try:
        read(path)
    except IntegrityError as error:
        return str(path) in str(error) and "\n" not in str(error)
    return False


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


@pytest.mark.parametrize("file", PATCH_FILES)
def test_every_flipped_bit_of_a_patch_store_is_noticed(built: PatchStore, file: str) -> None:
    path = built.path
    unnoticed = []
    for bit in range(bits_of(path / file)):
        flip_bit(path / file, bit)
        if not (refuses(read_all, path) and any(verify_patches(path))):
            unnoticed.append(bit)
        flip_bit(path / file, bit)
    assert unnoticed == []
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


@pytest.mark.parametrize("file", PATCH_FILES)
def test_every_length_of_a_file_but_its_own_is_noticed(built: PatchStore, file: str) -> None:
    path = built.path
    whole = (path / file).read_bytes()
    unnoticed = []
    for length in range(len(whole)):
        (path / file).write_bytes(whole[:length])
        if not (refuses(read_all, path) and any(verify_patches(path))):
            unnoticed.append(length)
    (path / file).write_bytes(whole)
    assert unnoticed == []


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


@pytest.mark.slow
def test_every_flipped_bit_of_a_larger_store_is_noticed(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 9), np.uint8)
    path = build(tmp_path, images, 64).path
    for file in files_of(path):
        for bit in range(bits_of(path / file)):
            flip_bit(path / file, bit)
            assert refuses(read_all, path), (file, bit)
            flip_bit(path / file, bit)
    assert not bad(path)


def example(k: int, digest: str = "d1", **changes: object) -> Dictionary:
    rng = np.random.default_rng(k)
    count, sse = np.full(k, 6), rng.random(k)
    attributes = {
        "k": k,
        "mse": float(sse.sum()) / (6 * k * 6),
        "sse": float(sse.sum()),
        "live": k,
        "passes": 2,
        "digest": digest,
    }
    return Dictionary(
        centroids=rng.random((k, 2, 3), np.float32),
        count=count,
        sse=sse,
        history={name: [1.0, 2.0] for name in HISTORY},
        attributes=attributes | changes,
    )


ROOT = {"digest": "d1", "train_store": "store-1", "n_rows": 12, "dim": 6}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "dictionaries.zarr"
    create_dictionaries(path, ROOT)
    write_dictionary(path, example(2))
    return path


def load_all(path: Path) -> None:
    for node in open_dictionaries(path).children.values():
        node.load()


def bad_dictionaries(path: Path) -> list[str]:
    return [finding.reason for finding in verify_dictionaries(path) if finding]


def dictionary_files(path: Path) -> Iterator[Path]:
    yield from (path / name for name in files_of(path))


def test_flipped_bits_and_cut_files_of_dictionaries_are_noticed(tree: Path) -> None:
    assert not bad_dictionaries(tree)
    for file in dictionary_files(tree):
        whole = file.read_bytes()
        step = 23 if file.name == "zarr.json" else 3  # all bits in the slow test
        for position in range(0, len(whole), step):
            flip_bit(file, bit := position * 8 + position % 8)
            assert refuses(load_all, tree), (file, position)
            flip_bit(file, bit)
        for length in range(0, len(whole), 7 * step):
            file.write_bytes(whole[:length])
            assert refuses(load_all, tree), (file, length)
        file.write_bytes(whole)
    assert not bad_dictionaries(tree)


@pytest.mark.slow
def test_every_flipped_bit_of_dictionaries_is_noticed(tree: Path) -> None:
    for file in dictionary_files(tree):
        for bit in range(bits_of(file)):
            flip_bit(file, bit)
            assert refuses(load_all, tree), (file, bit)
            assert bad_dictionaries(tree)
            flip_bit(file, bit)


@pytest.mark.parametrize("damage", DAMAGES)
def test_dictionaries_are_verified_and_refused_by_name(tree: Path, damage: str) -> None:
    write_dictionary(tree, example(2 + 1, mse=1.0))  # not that of its errors
    assert len(bad_dictionaries(tree)) == 2  # nor does it count all rows
    shutil.rmtree(tree / "k00003")
    for file in list(dictionary_files(tree)):
        whole = file.read_bytes()
        DAMAGES[damage](file, np.random.default_rng(0))
        (reason,) = bad_dictionaries(tree)
        assert str(tree) in reason
        with pytest.raises(IntegrityError, match="run the same sweep again"):
            check_dictionaries(tree, ROOT)
        restore(file, whole)
    check_dictionaries(tree, ROOT)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"live": 1}, "has 2 live centroids where 1 are stated"),
        ({"sse": 5.0}, "where 5.0 is stated"),
        ({"mse": 5.0}, "where 5.0 is stated"),
        ({"passes": 3}, r"history of [2] passes where 3 are stated"),
    ],
)
def test_scores_that_are_not_those_of_the_arrays_are_found(
    tree: Path, changes: dict[str, object], reason: str
) -> None:
    shutil.rmtree(tree / "k00002")
    write_dictionary(tree, example(2, **changes))
    (found,) = bad_dictionaries(tree)
    assert reason in found


def test_arrays_that_cannot_be_are_found(tree: Path) -> None:
    shutil.rmtree(tree / "k00002")
    dictionary = example(2)
    dictionary.centroids[0, 1, 2] = np.nan
    dictionary.count[:] = (13, -1)
    write_dictionary(tree, dictionary)
    (first, second) = bad_dictionaries(tree)
    assert "holds 1 centroid values not finite" in first
    assert "counts 12 rows where 12 are stated, some below zero" in second


def test_what_does_not_belong_to_the_dictionaries_is_named(tree: Path) -> None:
    (tree / "k00002" / "centroids" / "note").touch()
    (tree / "stray").mkdir()
    shutil.copy(tree / "zarr.json", tree / "stray" / "zarr.json")
    reasons = bad_dictionaries(tree)
    assert [reason.split()[0] for reason in reasons] == [
        f"{tree}/k00002/centroids/note",
        f"{tree}/stray",
    ]
    assert list(open_dictionaries(tree).children) == ["k00002"]


def test_dictionaries_of_another_store_are_refused(tree: Path, tmp_path: Path) -> None:
    for changed in ({"digest": "d2"}, {"train_store": "store-2"}, {"source": {"fingerprint": "f"}}):
        for check in (check_dictionaries, create_dictionaries):
            with pytest.raises(
                IntegrityError, match=r"were fitted on another store .* another OUT"
            ):
                check(tree, ROOT | changed)
    # one group of another experiment, or under another K's name
    write_dictionary(tree, example(4, digest="d2"))
    for read in (finished_dictionaries, open_dictionaries):
        with pytest.raises(IntegrityError, match="k00004 was fitted on another store"):
            read(tree)
    (tree / "k00004").rename(tmp_path / "elsewhere")
    shutil.copytree(tree / "k00002", tree / "k00005")
    with pytest.raises(IntegrityError, match="k00005 holds 2 centroids"):
        read_centroids(tree, 5)
    np.testing.assert_array_equal(read_centroids(tree, 2)[0], example(2).centroids)


def test_an_unfinished_dictionary_is_refused(tree: Path) -> None:
    file = tree / "k00002" / "zarr.json"
    text = file.read_text()
    start, end = text.index('    "checksums"'), text.index('    "seal"')
    unsealed = text[:start] + text[end:].split("\n", 1)[1]
    file.write_text(unsealed.replace('"complete": true,', '"complete": false'))
    with pytest.raises(IntegrityError, match="k00002 is unfinished: delete its folder"):
        open_dictionaries(tree)


def test_a_seal_can_be_made_anew(copied: Path) -> None:
    before = (copied / "zarr.json").read_bytes()
    write_seal(copied, read_checksums(copied))
    assert (copied / "zarr.json").read_bytes() == before
    assert sorted(files_of(copied)) == sorted(PATCH_FILES)
