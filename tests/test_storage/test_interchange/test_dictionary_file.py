"""A dictionary as one file: what was written is read, and what was not is refused."""

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage import InputError, IntegrityError, load_dictionary
from storage.interchange.dictionary_file import (
    KIND,
    npz_file,
    read_dictionary_file,
    safetensors_file,
)

WRITERS = {"npz": npz_file, "safetensors": safetensors_file}
CARD = {"k": 3, "mse": 1.5, "spec": {"rows": 2, "cols": 2}, "fit": {"moves": None}, "name": "ü"}
both = pytest.mark.parametrize("kind", WRITERS)


def arrays(*shape: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "centroids": rng.normal(size=(3, *shape)).astype(np.float32),
        "count": np.array([4, 0, 2]),
        "sse": np.array([1.0, 0.0, 0.25]),
        "mse": np.array([3.0, 1.5]),
    }


def written(path: Path, kind: str, *shape: int, **card: Any) -> Path:
    path.write_bytes(WRITERS[kind](arrays(*shape), CARD | card))
    return path


@both
@pytest.mark.parametrize("shape", [(2, 2), (1, 3, 3), (4,)])
def test_what_was_written_is_read(kind: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    found = load_dictionary(written(tmp_path / "any name", kind, *shape))
    for name, array in arrays(*shape).items():
        np.testing.assert_array_equal(found[name].values, array)
        assert found[name].dtype == array.dtype
    axes = ("feature",) if len(shape) == 1 else ("row", "col", "channel")[: len(shape)]
    assert found["centroids"].dims == ("atom", *axes)
    assert found["centroids"].attrs["units"] == "pixel levels"
    assert found.attrs["mse"] == 1.5
    assert json.loads(found.attrs["spec"]) == CARD["spec"]
    assert not {"format", "schema"} & set(found.attrs)


def test_big_endian_arrays_and_parts_of_others_are_written_as_they_are(tmp_path: Path) -> None:
    for kind, write in WRITERS.items():
        given = {"centroids": np.arange(24, dtype=">f4").reshape(2, 3, 4).transpose(0, 2, 1)}
        (tmp_path / kind).write_bytes(write(given, {}))
        found, _ = read_dictionary_file(tmp_path / kind)
        np.testing.assert_array_equal(found["centroids"], given["centroids"])


@both
def test_the_same_dictionary_gives_the_same_bytes(kind: str) -> None:
    content = WRITERS[kind](arrays(2, 2), CARD)
    turned = dict(reversed(arrays(2, 2).items()))
    for _ in range(20):
        assert WRITERS[kind](turned, CARD) == content
    if kind == "npz":  # whose members have a time
        members = zipfile.ZipFile(io.BytesIO(content)).infolist()
        assert {member.date_time[0] for member in members} == {1980}


def test_numpy_opens_an_npz_without_pickle(tmp_path: Path) -> None:
    with np.load(written(tmp_path / "a.npz", "npz", 2, 2), allow_pickle=False) as file:
        np.testing.assert_array_equal(file["centroids"], arrays(2, 2)["centroids"])
        assert json.loads(str(file["card"]))["format"] == KIND


def test_safetensors_opens_its_own(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors")
    path = written(tmp_path / "a.safetensors", "safetensors", 2, 2)
    with library.safe_open(path, framework="pt") as file:
        np.testing.assert_array_equal(file.get_tensor("centroids"), arrays(2, 2)["centroids"])
        assert json.loads(file.metadata()["card"])["k"] == 3


@both
def test_no_flipped_bit_and_no_cut_is_overlooked(kind: str, tmp_path: Path) -> None:
    """Of zip's own book-keeping some bits have no meaning: what is read then is as written."""
    whole = written(tmp_path / "whole", kind, 2, 2).read_bytes()
    expected, card = read_dictionary_file(tmp_path / "whole")
    path, noticed = tmp_path / "damaged", 0
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            found = read_dictionary_file(path)
        except (InputError, IntegrityError):
            noticed += 1
            continue
        assert (found[1], list(found[0])) == (card, list(expected))
        for name, array in found[0].items():
            np.testing.assert_array_equal(array, expected[name])
    assert noticed > len(whole) // 7 // 2
    for size in range(0, len(whole), 61):
        path.write_bytes(whole[:size])
        with pytest.raises((InputError, IntegrityError)):
            read_dictionary_file(path)


@both
def test_damage_is_named(kind: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a", kind, 2, 2)
    content = bytearray(path.read_bytes())
    at = content.index(arrays(2, 2)["centroids"].tobytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="a is damaged, its checksum does not fit"):
        load_dictionary(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(IntegrityError, match="fetch it again"):
        load_dictionary(path)


@both
def test_another_schema_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="schema version 2 where 1 is expected"):
        load_dictionary(written(tmp_path / "a", kind, 2, 2, schema=2))


@both
@pytest.mark.parametrize("left_out", ["centroids", "atoms"])
def test_arrays_that_are_no_dictionary_are_refused(
    kind: str, left_out: str, tmp_path: Path
) -> None:
    given = arrays(2, 2) | ({"count": np.zeros(9)} if left_out == "atoms" else {})
    given.pop(left_out, None)
    (tmp_path / "a").write_bytes(WRITERS[kind](given, CARD))
    with pytest.raises(IntegrityError, match="a holds no dictionary"):
        load_dictionary(tmp_path / "a")


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    np.savez(tmp_path / "own.npz", centroids=np.zeros((2, 3)))
    np.savez(tmp_path / "objects.npz", card=np.array([{}], object))
    np.savez_compressed(tmp_path / "card.npz", card=np.array('{"format": "another"}'))
    np.save(tmp_path / "own.npy", np.zeros(9))
    library.save_file({"a": np.zeros(3)}, tmp_path / "plain.safetensors")
    library.save_file({"a": np.zeros(3)}, tmp_path / "list.safetensors", {"card": "[1]"})
    (tmp_path / "text").write_text("[1, 2, 3]")
    (tmp_path / "like").write_bytes(b"\xff" * 8 + b"{")
    (tmp_path / "empty").touch()
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("data.pkl", b"no")
    files = [path for path in tmp_path.iterdir() if path.is_file()]
    assert len(files) == 10
    for path in files:
        with pytest.raises((InputError, IntegrityError)) as refused:
            load_dictionary(path)
        told = str(refused.value)
        assert str(path) in told, told
        foreign = path.stem not in ("objects", "like")
        assert ("is not a dictionary that patchdict wrote" in told) == foreign, told


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file .*absent: give one that export or save wrote$"):
        load_dictionary(tmp_path / "absent")
    with pytest.raises(InputError, match=r"open_dictionaries opens dictionaries\.zarr"):
        load_dictionary(str(tmp_path))


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a", "safetensors", 2, 2)
    for name in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"cannot open .*pip install 'patchdict\[export\]'"):
        load_dictionary(path)
    with pytest.raises(InputError, match=r"cannot write safetensors.*patchdict\[export\]"):
        safetensors_file(arrays(2, 2), CARD)
