"""CIFAR-10 in archives like its own, with fewer images."""

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import extract
from storage import ImageOptions, InputError, class_names, open_images, open_labels
from storage.images.datasets import DATASETS, RemoteFile
from tests import http_faults as http
from tests.http_faults import FaultyServer

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 4, 32, 32, 3)).astype(np.uint8)  # of six files of four images
CLASSES = RNG.integers(0, 10, (6, 4)).astype(np.uint8)
NAMES = [*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"]
FOLDER = "cifar-10-batches-bin"


def batch(number: int) -> bytes:
    """A file: of each image its class, then its red, green and blue pixels."""
    planes = PIXELS[number].transpose(0, 3, 1, 2).reshape(4, -1)
    return np.concatenate([CLASSES[number][:, None], planes], axis=1).tobytes()


def archive(contents: dict[str, bytes]) -> bytes:
    """A .tar.gz; members lie in a folder, in the order of the archive that is served: none."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as made:
        for name, content in reversed(contents.items()):
            member = tarfile.TarInfo(f"{FOLDER}/{name}")
            member.size = len(content)
            made.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def pin(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


WHOLE = {name: batch(number) for number, name in enumerate(NAMES)} | {"readme.html": b"<html>"}
PACKED = archive(WHOLE)


@pytest.fixture
def cifar(server: FaultyServer, monkeypatch: pytest.MonkeyPatch) -> FaultyServer:
    """Serves the archive, whose hashes are pinned."""
    server.plan = [http.send(PACKED)]
    files = [RemoteFile(name, pin(WHOLE[name])) for name in NAMES]
    batches = {"train": tuple(files[:5]), "test": tuple(files[5:])}
    served = RemoteFile("cifar-10-binary.tar.gz", pin(PACKED), (server.url,))
    fake = replace(DATASETS["cifar10"], batches=batches, archive=served)
    monkeypatch.setitem(DATASETS, "cifar10", fake)
    return server


def test_images_and_classes_are_those_of_the_files(cifar: FaultyServer, tmp_path: Path) -> None:
    for split, own in (("train", slice(5)), ("test", slice(5, 6))):
        images = open_images("cifar10", split, tmp_path)
        expected = PIXELS[own].reshape(-1, 32, 32, 3)
        assert images.resident_bytes == 0
        np.testing.assert_array_equal(images.read(slice(None)), expected)
        which = np.array([3, 0, 3, 1]) if split == "test" else np.array([19, 0, 4, 7, 4])
        np.testing.assert_array_equal(images.read(which), expected[which])
        for index in which.tolist():
            window = images.reader.read(index, slice(3, 9), slice(0, 32))
            np.testing.assert_array_equal(window, expected[index, 3:9])
        np.testing.assert_array_equal(
            open_labels("cifar10", split, tmp_path), CLASSES[own].reshape(-1)
        )
    assert images.reader.name(2) == f"image 2 of {tmp_path}/cifar10/test_batch.bin"
    train = open_images("cifar10", "train", tmp_path)
    assert train.reader.name(13) == f"image 1 of {tmp_path}/cifar10/data_batch_4.bin"
    assert class_names("cifar10") == (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    assert len(cifar.requests) == 1


def test_its_store_is_that_of_the_same_array(cifar: FaultyServer, tmp_path: Path) -> None:
    del cifar
    images = PIXELS[:5].reshape(-1, 32, 32, 3)
    stores = [
        extract(given, patch=8, stride=4, out=tmp_path / name, data=tmp_path).store
        for name, given in (("a", "cifar10"), ("b", images))
    ]
    assert stores[0].source["name"] == "cifar10"
    assert stores[0].n_rows == 20 * 49
    np.testing.assert_array_equal(stores[0].array[:], stores[1].array[:])


@pytest.mark.parametrize("place", ["", f"{FOLDER}/", f"cifar10/{FOLDER}/", "other/deep/"])
def test_files_that_are_there_are_used(cifar: FaultyServer, tmp_path: Path, place: str) -> None:
    for name in NAMES:
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / name).write_bytes(WHOLE[name])
    before = sorted(tmp_path.rglob("*"))
    for split in ("train", "test"):
        open_images("cifar10", split, tmp_path)
        open_labels("cifar10", split, tmp_path)
    assert not cifar.requests
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_that_is_there_is_unpacked(cifar: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(PACKED)
    (tmp_path / "cifar10").mkdir()
    wrong = tmp_path / "cifar10" / "test_batch.bin"
    wrong.write_bytes(WHOLE["test_batch.bin"][:-1])
    open_images("cifar10", "train", tmp_path)
    found = open_images("cifar10", "test", tmp_path)
    np.testing.assert_array_equal(found.read(slice(None)), PIXELS[5])
    assert not cifar.requests
    assert sorted(path.name for path in wrong.parent.iterdir()) == [*NAMES, "test_batch.bin.old1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PACKED[:-2000], r"is damaged \("),
        (b"no archive" * 99, r"is damaged \("),
        (archive({**WHOLE, NAMES[2]: batch(3)}), r"damaged \(it holds another data_batch_3\.bin"),
        (archive({NAMES[0]: batch(0)}), r"lacks data_batch_2\.bin, data_batch_3\.bin"),
    ],
)
def test_damaged_archives_are_named_and_leave_no_half(
    content: bytes,
    message: str,
    cifar: FaultyServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    named = DATASETS["cifar10"]
    assert named.archive is not None
    pinned = replace(named.archive, digest=pin(content))
    monkeypatch.setitem(DATASETS, "cifar10", replace(named, archive=pinned))
    cifar.plan = [http.send(content)]
    with pytest.raises(InputError, match=message):
        open_images("cifar10", "train", tmp_path)
    for path in (tmp_path / "cifar10").glob("*.bin"):
        assert path.read_bytes() == WHOLE[path.name]
    assert not [*tmp_path.rglob(".*")]


def test_what_is_not_to_be_had_and_layouts_are_refused(cifar: FaultyServer, tmp_path: Path) -> None:
    cifar.plan = [http.send(PACKED[:-1])]
    with pytest.raises(InputError, match=r"cannot download cifar-10-binary.*wrong hash"):
        open_images("cifar10", "train", tmp_path)
    with pytest.raises(InputError, match="leave out layout"):
        open_images("cifar10", "train", tmp_path, ImageOptions(layout="NHWC"))
