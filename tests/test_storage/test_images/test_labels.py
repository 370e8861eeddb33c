"""Classes of images: found, fetched, or refused by name."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from storage import InputError, class_names, open_images, open_labels
from storage.images import download as downloads
from storage.images.datasets import DATASETS, RemoteFile
from tests import http_faults as http
from tests.http_faults import FaultyServer
from tests.idx_files import idx_bytes

LABELS = np.array([3, 0, 9, 9, 1], np.uint8)


def serve(server: FaultyServer, monkeypatch: pytest.MonkeyPatch, array: np.ndarray) -> None:
    """Let the server hold the classes of MNIST's test split."""
    content = gzip.compress(idx_bytes(array), mtime=0)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    file = RemoteFile("labels.gz", digest, (server.url,))
    monkeypatch.setitem(DATASETS, "mnist", replace(DATASETS["mnist"], labels={"test": file}))
    server.plan = [http.send(content)]


def test_digits_keep_their_classes_and_their_order() -> None:
    train, test = open_labels("digits"), open_labels("digits", "test")
    assert train is not None
    assert test is not None
    assert train.dtype == np.int64
    assert len(train) == len(open_images("digits").images)
    np.testing.assert_array_equal(np.concatenate([train, test]), load_digits().target)


def test_labels_are_fetched_once_and_read_as_int64(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, LABELS)
    for folder in (tmp_path, str(tmp_path)):
        labels = open_labels("mnist", "test", folder)
        assert labels is not None
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(labels, LABELS)
    assert len(server.requests) == 1


def test_the_mirrors_are_asked_as_often_as_wanted(
    server: FaultyServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    serve(server, monkeypatch, LABELS)
    server.plan = [http.refuse(503)]
    with pytest.raises(InputError, match=r"cannot download labels\.gz"):
        open_labels("mnist", "test", tmp_path, rounds=1)
    assert len(server.requests) == 1
    with pytest.raises(InputError, match=r"cannot download labels\.gz"):
        open_labels("mnist", "test", tmp_path)
    assert len(server.requests) == 1 + downloads.ROUNDS


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 2), np.uint8), r"uint8 of shape \(5, 2\)"),
        (np.zeros(5, np.float32), "holds float32"),
        (np.array([0, 10], np.uint8), "classes from 0 to 10 where 0 to 9"),
        (np.array([-1, 3], np.int8), "classes from -1 to 3"),
    ],
)
def test_what_is_no_list_of_classes_is_refused(
    array: np.ndarray,
    message: str,
    server: FaultyServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    serve(server, monkeypatch, array)
    with pytest.raises(InputError, match=message):
        open_labels("mnist", "test", tmp_path)


def test_a_path_has_no_classes(strokes_file: Path) -> None:
    assert open_labels(str(strokes_file)) is None
    assert class_names(str(strokes_file)) is None
    assert open_labels(str(strokes_file), "test") is None


def test_every_class_of_every_data_set_has_its_name() -> None:
    assert class_names("mnist") == class_names("digits") == tuple("0123456789")
    fashion = class_names("fashion-mnist")
    assert fashion is not None
    assert (len(fashion), fashion[0], fashion[9]) == (10, "T-shirt/top", "Ankle boot")


@pytest.mark.parametrize(
    ("split", "first", "last", "images"),
    [("train", [5, 0, 4, 1, 9], 8, 60_000), ("test", [7, 2, 1, 0, 4], 6, 10_000)],
)
@pytest.mark.parametrize("unpacked", [False, True])
def test_canonical_mnist_files_are_recognised(
    mnist_dir: Path,
    tmp_path: Path,
    split: str,
    first: list[int],
    last: int,
    images: int,
    unpacked: bool,
) -> None:
    name = DATASETS["mnist"].labels[split].name
    if not (mnist_dir / name).is_file():
        pytest.skip(f"no {name} in {mnist_dir}")
    content = (mnist_dir / name).read_bytes()
    file = tmp_path / (name.removesuffix(".gz") if unpacked else name)
    file.write_bytes(gzip.decompress(content) if unpacked else content)
    labels = open_labels("mnist", split, tmp_path)
    assert labels is not None
    assert len(labels) == images
    assert [*labels[:5], labels[-1]] == [*first, last]
    assert list(tmp_path.iterdir()) == [file]
