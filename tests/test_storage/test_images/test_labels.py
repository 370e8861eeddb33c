"""Classes of images: found, fetched, or refused by name."""

import gzip
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from storage import ImageOptions, ImageSource, InputError, class_names, open_images, open_labels
from storage.images import download as downloads
from storage.images.datasets import DATASETS, RemoteFile
from tests import http_faults as http
from tests.http_faults import FaultyServer
from tests.idx_files import idx_bytes, write_idx

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images in two folders, two of them of one name."""
    for name in ("a/1.png", "a/2.png", "a/10.png", "b/2.png", "b/x y,z.png"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 9), len(name), np.uint8)).save(path)
    return tmp_path / "images"


WHOLE = 'a/1.png,cat\na/2.png,dog\na/10.png,cat\nb/2.png,cow\n"b/x y,z.png",dog\n'


def stated(images: Path | str, content: str | bytes, **options: Any) -> ImageSource:
    """The images, with a CSV file of this content."""
    path = Path(images).parent / "classes.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return open_images(str(images), options=ImageOptions(labels=str(path), **options))


@pytest.mark.parametrize(
    "content",
    [
        WHOLE,
        "\ufefffile,kind\r\n" + WHOLE.replace("\n", " \r\n\r\n"),
        "\n".join(reversed(WHOLE.splitlines())) + "\na/1.png,cat",
        WHOLE.replace("a/1.png", "1.png").replace("a/10", "./elsewhere/10"),
        WHOLE.replace("a/", "HERE/a/").replace(",cow", ' ,  "cow"'),
        WHOLE.replace("a/", "/once/here/a/"),
        WHOLE.replace("a/2", "./a//2").replace("a/10", "c:\\\\my\\\\10"),
    ],
    ids=["plain", "heading", "any order", "names", "whole paths", "moved", "odd paths"],
)
def test_classes_of_images_in_files_go_by_their_names(folder: Path, content: str) -> None:
    found = stated(folder, content.replace("HERE", str(folder)))
    assert found.classes == ("cat", "cow", "dog")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 2, 0, 1, 2]
    assert found.fingerprint == open_images(str(folder)).fingerprint
    assert found.describe() == open_images(str(folder)).describe()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE.replace("a/10.png,cat\n", ""), r"has no class of a/10\.png \(1 of 5 images"),
        (WHOLE + "a/3.png,cat\n", r"line 6: .*images has no image 'a/3\.png'"),
        ("a/3.png,cat\n" + WHOLE, r"line 1: .*has no image 'a/3\.png'"),
        (WHOLE + "1.png,dog\n", "line 6: image '1.png' is of class 'dog', and of 'cat' before"),
        (WHOLE.replace("b/2", "2"), r"'2\.png' is no image's path, and 2 images of .* give their"),
        (WHOLE.replace(",cow", ""), r"line 4: 'b/2\.png' is not name,class"),
        (WHOLE.replace(",cow", ", "), r"line 4: 'b/2\.png,' is not name,class"),
        ("", "is empty: give lines of name,class"),
        ("\n \n,\n", "is empty"),
        (WHOLE.encode("utf-16"), "is no text in UTF-8"),
        (WHOLE.replace("dog", "h\xe4st").encode("latin-1"), "is no text in UTF-8"),
        ('a,"' + "x" * 140_000, r"is not CSV \("),
    ],
)
def test_classes_that_do_not_fit_are_refused(
    folder: Path, content: str | bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _ = stated(folder, content).labels
    assert str(caught.value).isprintable()


def test_accents_may_be_written_either_way(folder: Path) -> None:
    (folder / "a" / "1.png").rename(folder / "a" / "e\u0301.png")  # as macOS writes é
    for written in ("e\u0301", "\u00e9"):
        labels = stated(folder, WHOLE.replace("a/1.png", f"a/{written}.png")).labels
        assert labels is not None
        assert sorted(labels.tolist()) == [0, 0, 1, 2, 2]
    Image.new("L", (9, 9)).save(folder / "a" / "\u00e9.png")
    with pytest.raises(InputError, match="has no class of a/\u00e9"):
        _ = stated(folder, WHOLE.replace("a/1.png", "a/e\u0301.png")).labels


def test_images_that_are_left_out_may_have_classes(folder: Path) -> None:
    (folder / "a" / "2.png").write_bytes(b"broken")
    found = stated(folder, WHOLE, on_error="skip")
    assert found.classes == ("cat", "cow", "dog")
    assert found.labels is not None
    assert found.labels.tolist() == [0, 0, 1, 2]
    with pytest.raises(InputError, match="no file of classes"):
        _ = open_images(str(folder / "b"), options=ImageOptions(labels=str(folder))).labels


@pytest.mark.parametrize(
    "content",
    [
        "10\n9\n10\n10\n2\n",
        "class\n10\n9\n10\n10\n2\n",
        "0,10\n1,9\n2,10\n3,10\n4,2\n",
        "index,class\n4,2\n3,10\n2,10\n1,9\n0,10\n3,10\n",
    ],
)
@pytest.mark.parametrize("kind", ["npy", "gz"])
def test_classes_of_arrays_go_by_their_order(tmp_path: Path, content: str, kind: str) -> None:
    images = np.ones((5, 8, 9), np.uint8)
    path = tmp_path / f"images.{kind}"
    np.save(path, images) if kind == "npy" else write_idx(path, images)
    found = stated(path, content)
    assert found.classes == ("2", "9", "10")
    assert found.labels is not None
    assert found.labels.tolist() == [2, 1, 2, 2, 0]
    parts = [
        open_images(str(path), split, options=replace(found.options, heldout=0.4)).labels
        for split in ("train", "test")
    ]
    order = np.random.default_rng(0).permutation(5)
    for part, chosen in zip(parts, (order[2:], order[:2]), strict=True):
        assert part is not None
        assert part.tolist() == found.labels[np.sort(chosen)].tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\nb\na\nb\n", "has 4 lines for the 5 images of .*npy: give each image a line"),
        ("a\nb\na\nb\nb\nb\n", "has 6 lines for the 5 images"),
        ("0,a\n1,a\n2,b\n4,b\n", "has no class of image 3 of .*npy"),
        ("0,a\n1,a\n2,b\n3,b\n4,b\n5,b\n", "line 6: .*npy has no image '5'"),
        ("0,a\n1,a\n2,b\n3,b\n4,b\n-1,b\n", "has no image '-1'"),
        ("0,a\n1,a,c\n", "line 2: '1,a,c' is not index,class"),
        ("0;a\n1;a\n2;b\n3;b\n4;b\n", "line 1: '0;a' is not index,class: write so, with a comma"),
        ("0 a\n1 a\n2 b\n3 b\n4 b\n", "line 1: '0 a' is not index,class: write so, with a comma"),
        ("index class\n0 a\n1 a\n2 b\n3 b\n4 b\n", "'index class' is not index,class"),
        ("index\tclass\n0\ta\n1\ta\n2\tb\n3\tb\n4\tb\n", "is not index,class"),
    ],
)
def test_classes_of_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, content: str, message: str
) -> None:
    np.save(tmp_path / "images.npy", np.ones((5, 8, 9), np.uint8))
    with pytest.raises(InputError, match=message):
        _ = stated(tmp_path / "images.npy", content).labels


def test_a_number_may_begin_the_name_of_a_class(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.ones((5, 8, 9), np.uint8))
    found = stated(tmp_path / "images.npy", "0 ant\n0 ant\n1 bee\n1 bee\n0 ant\n")
    assert found.labels is not None
    assert (*found.classes, *found.labels) == ("0 ant", "1 bee", 0, 0, 1, 1, 0)
