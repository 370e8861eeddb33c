import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr

from pipeline.extraction.extract import extract
from storage import InputError, IntegrityError, PatchSpec, PatchStore, open_patches
from storage.dictionary_store import create_dictionaries
from storage.integrity import read_checksums, write_seal
from storage.plain_attributes import parsed
from storage.verification import Finding, verify_patches
from tests.damage import chunk_file
from tests.idx_files import write_idx

SPEC = PatchSpec(3, 4)


@pytest.fixture
def store(strokes_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PatchStore:
    """A store of several chunks."""
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 12 * 512)
    found, *_ = extract(str(strokes_file), patch=SPEC, out=tmp_path)
    assert found.n_chunks > 3
    return found


def findings(store: PatchStore) -> list[Finding]:
    return [finding for finding in verify_patches(store.path) if finding]


def test_attributes_and_views_agree(store: PatchStore) -> None:
    rows = np.concatenate([store.read_chunk(i) for i in range(store.n_chunks)])
    assert rows.shape == store.shape == store.array.shape == (store.n_rows, 12)
    assert store.spec == SPEC
    assert store.patch_shape == (3, 4)
    assert store.dtype == rows.dtype == np.uint8
    np.testing.assert_array_equal(store.to_dask().compute(), rows)
    lazy = store.to_xarray()
    assert lazy.dims == ("patch", "row", "col")
    np.testing.assert_array_equal(lazy.values.reshape(rows.shape), rows)
    assert parsed(lazy.attrs)["spec"] == SPEC.to_dict()


def test_rows_lie_by_rows_whatever_the_settings_of_zarr_are(store: PatchStore) -> None:
    with zarr.config.set({"array.order": "F"}):  # also ZARR_ARRAY__ORDER
        rows = open_patches(store.path).read_chunk(0)
    assert rows.flags.c_contiguous
    np.testing.assert_array_equal(rows, store.read_chunk(0))


def test_verify_names_exactly_the_bad_chunks(store: PatchStore) -> None:
    assert list(verify_patches(store.path)) == [None] * store.n_chunks
    blank = zarr.open_array(store.path / "patches", mode="r+")
    blank[store.chunk_rows + 5] = 0
    write_seal(store.path, read_checksums(store.path))
    chunk_file(store, 0).unlink()
    chunk_file(store, 3).write_bytes(b"")
    bad = findings(store)
    assert [finding.chunk for finding in bad] == [0, 1, 3]
    assert bad[1].reason == f"chunk 1 of {store.path}/patches holds 1 blank rows"


def test_stores_that_cannot_be_trusted_are_refused(store: PatchStore, tmp_path: Path) -> None:
    def changed(name: str, value: object, *, sealed: bool = False) -> Path:
        copy = tmp_path / f"{name}.zarr"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(store.path, copy)
        zarr.open_group(copy, mode="r+").attrs[name] = value
        if sealed:
            write_seal(copy, read_checksums(copy))
        return copy

    for name, value, message in (
        ("complete", False, "unfinished"),
        ("schema", 99, "schema version 99 where 2"),
        ("n_rows", 5, "seal is broken"),
        ("note", "added", "seal is broken"),
        ("seal", None, "seal is broken"),
    ):
        with pytest.raises(IntegrityError, match=message):
            open_patches(changed(name, value))
    for name, value, message in (
        ("n_rows", 5, "states"),
        ("dim", 11, "states"),
        ("source", store.source | {"dtype": "int8"}, "states"),
        ("spec", {}, "TypeError"),
        ("source", None, "TypeError"),
    ):
        copy = changed(name, value, sealed=True)
        with pytest.raises(IntegrityError, match=message):
            open_patches(copy)
    with pytest.raises(InputError, match="no patch store at"):
        open_patches(tmp_path / "absent.zarr")
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(InputError, match="is not a patch store"):
        open_patches(tmp_path / "empty.zarr")
    (store.path / "zarr.json").write_text("{")
    with pytest.raises(IntegrityError, match="damaged metadata"):
        open_patches(store.path)


def test_verify_reads_the_order_too(store: PatchStore) -> None:
    order = zarr.open_array(store.path / "order", mode="r+")
    order[3] = order[4]
    (bad,) = findings(store)
    assert (bad.chunk, "order is not the one that was written" in bad.reason) == (-1, True)
    write_seal(store.path, read_checksums(store.path))
    (bad,) = findings(store)
    assert (bad.chunk, "does not fit its 60 images" in bad.reason) == (-1, True)
    (store.path / "order" / "c" / "0").unlink()
    (bad,) = findings(store)
    assert (bad.chunk, "order is missing" in bad.reason) == (-1, True)


@pytest.mark.parametrize("wrong", ["first", "falling", "last"])
def test_verify_reads_the_offsets_too(store: PatchStore, wrong: str) -> None:
    offsets = zarr.open_array(store.path / "offsets", mode="r+")
    values = offsets[:]
    if wrong == "falling":
        values[[4, 5]] = values[[5, 4]]
        assert values[4] > values[5]
    else:
        values[0 if wrong == "first" else -1] += 1
    offsets[:] = values
    write_seal(store.path, read_checksums(store.path))
    (bad,) = findings(store)
    assert (bad.chunk, "offsets of" in bad.reason) == (-1, True)


def test_a_chunk_that_does_not_exist_is_not_read_as_no_rows(store: PatchStore) -> None:
    for index in (-1, store.n_chunks):
        with pytest.raises(InputError, match=f"has no chunk {index}: use 0 to"):
            store.read_chunk(index)


def test_a_dictionary_store_is_not_a_patch_store(tmp_path: Path) -> None:
    create_dictionaries(tmp_path / "dictionaries.zarr", {})
    with pytest.raises(InputError, match="is not a store of patches"):
        open_patches(tmp_path / "dictionaries.zarr")


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_other_pixel_types_and_colour_stay_as_they_are(tmp_path: Path, dtype: str) -> None:
    rng = np.random.default_rng(0)
    images = (rng.random((9, 6, 7, 3)) * (200 if dtype == "uint16" else 1)).astype(dtype)
    np.save(tmp_path / "colour.npy", images)
    found, *_ = extract(str(tmp_path / "colour.npy"), patch=PatchSpec(2, 3, 2), out=tmp_path)
    assert found.dtype == np.dtype(dtype)
    assert found.patch_shape == (2, 3, 3)
    first = images[found.order[0], :2, :3].reshape(-1)
    np.testing.assert_array_equal(found.read_chunk(0)[0], first)
    assert found.to_xarray().dims == ("patch", "row", "col", "channel")


def test_big_endian_files_are_stored_in_native_order(tmp_path: Path) -> None:
    images = (np.arange(1, 2 * 4 * 4 + 1) / 32).reshape(2, 4, 4).astype(np.float32)
    path = write_idx(tmp_path / "floats", images)
    found, *_ = extract(str(path), patch=PatchSpec(4, 4), out=tmp_path)
    np.testing.assert_array_equal(found.read_chunk(0), images.reshape(2, 16)[found.order])
