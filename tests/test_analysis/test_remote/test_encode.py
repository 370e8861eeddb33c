"""Codes and features beside dictionaries in a bucket: those of the folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xarray

from analysis import decode
from analysis.encoding import encoding, tasks
from analysis.encoding.code_set import encode_set
from pipeline.runtime.progress import SilentProgress
from pipeline.upkeep.status import take_inventory
from pipeline.upkeep.verify import verify
from storage import InputError, IntegrityError, open_dictionaries
from storage.codes.code_store import open_codes
from storage.layout import BEGUN, METADATA
from storage.places.place import files_below
from storage.places.remote import RemotePlace
from tests.damage import files_of
from tests.interrupted import AtThirdChunk
from tests.test_analysis.commands import refused, run


@pytest.fixture(autouse=True)
def chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes of 64 images in a chunk: 5 chunks of the digits' test images."""
    monkeypatch.setattr(encoding, "CHUNK_CODES", 64 * 16)


def stored(files: dict[str, bytes]) -> dict[str, Any]:
    """Files of a store, but for where its dictionary lies."""
    found: dict[str, Any] = dict(files)
    found[METADATA] = json.loads(files[METADATA])
    for differs in ("experiment", "seal"):
        del found[METADATA]["attributes"][differs]
    return found


def in_bucket(place: str | RemotePlace) -> dict[str, Any]:
    files = files_below(RemotePlace.of(str(place)))
    return stored({key: found.read_bytes() for key, found in files})


@pytest.mark.parametrize(
    ("kind", "given"),
    [("codes", []), ("features", ["--features", "triangle", "--pool", "quadrants"])],
)
def test_they_have_the_bytes_of_those_in_a_folder(
    here: Path, there: RemotePlace, kind: str, given: list[str]
) -> None:
    asked = ["--k", 12, *given]
    expected, found = run("encode", here, *asked), run("encode", there, *asked)
    path = Path(expected[kind])
    assert found[kind] == str(there / path.name)
    assert in_bucket(found[kind]) == stored(files_of(path))
    for differs in (kind, "seconds"):
        del found[differs], expected[differs]
    assert found == expected
    assert run("encode", there, *asked)["reused"]
    assert verify(there / path.name, SilentProgress())["ok"]
    (listed,) = take_inventory(there.parent)["experiments"]
    assert [one["images"] for one in listed[kind]] == [297]


@pytest.mark.slow
def test_workers_write_the_same(here: Path, there: RemotePlace) -> None:
    found = encode_set(there, 12, scheduler="processes:2", memory=3 << 30)
    assert in_bucket(found["codes"]) == stored(files_of(Path(encode_set(here, 12)["codes"])))


def test_codes_in_a_bucket_are_decoded(here: Path, there: RemotePlace, tmp_path: Path) -> None:
    codes = run("encode", there, "--k", 12, "--split", "train")["codes"]
    expected = run("encode", here, "--k", 12, "--split", "train")["codes"]
    told = [
        run("decode", path, "--out", tmp_path / f"{number}.zarr") | {"path": ""}
        for number, path in enumerate((codes, expected))
    ]
    assert told[0] == told[1]
    assert told[0]["unscored"] is None
    assert files_of(tmp_path / "0.zarr") == files_of(tmp_path / "1.zarr")
    node = open_dictionaries(str(there / "dictionaries.zarr")).children["k00012"]
    xarray.testing.assert_identical(decode(codes, node), decode(expected, node))


def test_codes_and_dictionary_may_lie_in_a_folder_and_a_bucket(
    here: Path, there: RemotePlace, tmp_path: Path
) -> None:
    expected = run("decode", run("encode", here, "--k", 4)["codes"])
    for codes, folder in (
        (run("encode", there, "--k", 4, "--out", tmp_path / "c.zarr")["codes"], there),
        (run("encode", here, "--k", 4, "--out", there.parent / "c.zarr")["codes"], here),
    ):
        assert run("decode", codes) == expected
        assert run("decode", codes, "--experiment", folder) == expected


def test_what_was_broken_off_goes_on_with_the_missing_chunks(
    here: Path, there: RemotePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = stored(files_of(Path(run("encode", here, "--k", 12)["codes"])))
    broken = AtThirdChunk(monkeypatch, tasks, "write_codes")
    with pytest.raises(KeyboardInterrupt):
        encode_set(there, 12)
    (path,) = there.glob("codes-*")
    with pytest.raises(IntegrityError, match="is unfinished"):
        open_codes(path)
    (listed,) = take_inventory(there.parent)["experiments"]
    assert listed["codes"] == []
    broken.goes_on = True
    assert encode_set(there, 12)["chunks"] < 4
    assert len(broken.written) == len({str(place) for place in broken.written}) == 5
    assert in_bucket(path) == expected
    (path / BEGUN).write_bytes(b"of a run that was killed as it had sealed")
    assert encode_set(there, 12)["reused"]
    assert not (path / BEGUN).exists()


def flipped(place: RemotePlace) -> None:
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(bytes(content))


@pytest.mark.slow
@pytest.mark.parametrize("harm", [flipped, RemotePlace.unlink])
def test_damaged_chunks_are_written_again(
    there: RemotePlace, harm: Callable[[RemotePlace], None]
) -> None:
    path = RemotePlace.of(encode_set(there, 12)["codes"])
    whole = {key: found.read_bytes() for key, found in files_below(path)}
    harm(path / "codes" / "c" / "1" / "0" / "0")
    assert not verify(path, SilentProgress())["ok"]
    (listed,) = take_inventory(there)["experiments"]
    assert len(listed["codes"]) == 1
    with pytest.raises(IntegrityError):
        open_codes(path).read(slice(64, 128), slice(None), slice(None))
    assert encode_set(there, 12)["chunks"] == 1
    assert {key: found.read_bytes() for key, found in files_below(path)} == whole


@pytest.mark.slow
def test_nothing_else_is_written_over(
    there: RemotePlace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = there.parent / "other.zarr"
    for name in (".zgroup", "patches/c/0/0", "codes/notes", "image/c/1"):
        (other / name).write_bytes(b"another's")
        line = refused(capsys, "encode", there, "--k", 12, "--out", other)
        assert f"{other} is there already, and holds no codes" in line
        assert (other / name).read_bytes() == b"another's"
        other.remove_tree()
    (other / "codes" / "zarr.json").write_bytes(b"of a run that was killed as it began")
    codes = encode_set(there, 12, out=other)["codes"]
    assert "holds other codes" in refused(capsys, "encode", there, "--k", 4, "--out", codes)
    with pytest.raises(InputError, match="can only be read"):
        encode_set(there, 12, out=RemotePlace.of("https://host/codes.zarr"))
