"""Downloads from servers on this machine, good ones and bad ones."""

import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import InputError
from storage.images import download as downloads
from storage.images.datasets import DATASETS, SPLITS, RemoteFile
from storage.images.download import find_or_fetch
from tests import http_faults as http
from tests.http_faults import FaultyServer

PIXELS = np.random.default_rng(0).bytes(150_000)
CONTENT, OTHER = gzip.compress(PIXELS, mtime=0), gzip.compress(PIXELS[1:], mtime=0)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"


def fetch(data: Path, *servers: FaultyServer, name: str = "images.gz") -> Path:
    unpacked = f"md5:{hashlib.md5(PIXELS).hexdigest()}"
    sites = tuple(server.url for server in servers)
    return find_or_fetch(RemoteFile(name, DIGEST, sites, unpacked), "set", data)


def assert_fetched(data: Path, *servers: FaultyServer) -> None:
    """It arrives whole, and alone."""
    path = fetch(data, *servers)
    assert path == data / "set" / "images.gz"
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def refusal(data: Path, *servers: FaultyServer) -> str:
    """What is said where it does not arrive, and nothing is left behind."""
    with pytest.raises(InputError) as caught:
        fetch(data, *servers)
    assert str(caught.value).isprintable()
    assert list(data.rglob("*")) == []
    return str(caught.value)


@pytest.mark.parametrize(
    "fault",
    [
        http.refuse(500),
        http.refuse(503),
        http.refuse(408),
        http.refuse(429),
        http.Handler.hang_up,
        http.cut(CONTENT, 50_000),
        http.stall(CONTENT, 50_000, 0.6),
    ],
    ids=["500", "503", "408", "429", "hang up", "cut", "silent"],
)
def test_faults_that_may_pass_are_tried_again(
    server: FaultyServer, tmp_path: Path, fault: http.Answer
) -> None:
    server.plan = [fault, fault, http.send(CONTENT)]
    assert_fetched(tmp_path, server)
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(http.refuse(404), "HTTP 404"), (http.send(OTHER), "wrong hash")],
    ids=["404", "wrong hash"],
)
def test_what_every_mirror_refuses_is_told_of_each(
    servers: list[FaultyServer], tmp_path: Path, answer: http.Answer, reason: str
) -> None:
    for server in servers:
        server.plan = [answer]
    told = refusal(tmp_path, *servers)
    assert [f"{server.url} ({reason})" in told for server in servers] == [True, True]
    assert "by hand" in told
    assert [len(server.requests) for server in servers] == [3, 3]
    servers[1].plan = [http.send(CONTENT)]
    assert_fetched(tmp_path, *servers)


def test_rounds_are_few_and_waits_grow(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    server.plan = [http.refuse(503)]
    assert "(HTTP 503); fetch it by hand into" in refusal(tmp_path, server)
    assert len(server.requests) == downloads.ROUNDS
    assert waits == [0.02, 0.04]


def test_no_network_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    closed = FaultyServer()
    closed.close()
    for proxy in ("", "http://127.0.0.1:9"):
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, proxy)
        told = refusal(tmp_path, closed)
        assert "Error, no connection); fetch it by hand into" in told
        assert str(tmp_path / "set") in told
        assert hashlib.sha256(CONTENT).hexdigest() in told
        assert hashlib.md5(PIXELS).hexdigest() in told
    assert waits == []


@pytest.mark.parametrize(
    "place",
    [
        "train-images.idx3-ubyte",
        "MNIST/raw/train-images-idx3-ubyte",
        "mnist/archive/train-images-idx3-ubyte/TRAIN_IMAGES_IDX3_UBYTE",
        "raw/mine.idx",
    ],
)
@pytest.mark.parametrize("content", [PIXELS, CONTENT, gzip.compress(PIXELS, 1, mtime=7)])
def test_a_file_under_another_name_is_found_by_its_content(
    place: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / (place if content == PIXELS else f"{place}.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    for name, wrong in (
        ("a", b""),
        ("b", OTHER),
        ("train-images", CONTENT[:-9]),
        ("c", PIXELS[1:]),
    ):
        (tmp_path / f"{name}-idx3-ubyte.gz").write_bytes(wrong)
    assert fetch(tmp_path, name="train-images-idx3-ubyte.gz") == path


def test_what_lies_deep_or_is_called_otherwise_is_not_looked_into(tmp_path: Path) -> None:
    for place in ("a/b/c/d/e/train-images-idx3-ubyte.gz", "images"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(CONTENT)
    with pytest.raises(InputError, match="cannot download"):
        fetch(tmp_path, name="train-images-idx3-ubyte.gz")


def test_a_full_disk_is_not_the_mirror_s_fault(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "images.gz")

    server.plan = [http.send(CONTENT)]
    monkeypatch.setattr("storage.atomic.sync_tree", full)
    assert "No space left on device; make room or choose another DATA" in refusal(tmp_path, server)
    assert len(server.requests) == 1


@pytest.mark.parametrize("place", ["images.gz", "set/images.gz", "images", "set/images"])
def test_right_file_is_used_without_a_request(
    server: FaultyServer, tmp_path: Path, place: str
) -> None:
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(CONTENT if place.endswith(".gz") else PIXELS)
    assert fetch(tmp_path, server) == path
    assert server.requests == []


def test_another_file_of_that_name_is_left_alone(server: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "images.gz").write_bytes(b"mine")
    server.plan = [http.send(CONTENT)]
    assert_fetched(tmp_path, server)
    assert (tmp_path / "images.gz").read_bytes() == b"mine"


def test_what_was_in_its_place_gets_another_name(
    server: FaultyServer, tmp_path: Path, caplog: Any
) -> None:
    target = tmp_path / "set" / "images.gz"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    target.with_name("images.gz.old1").write_bytes(b"older")
    for answer in (http.send(OTHER), http.refuse(404)):
        server.plan = [answer]
        with pytest.raises(InputError, match="which is another file, is as it was"):
            fetch(tmp_path, server)
        assert target.read_bytes() == b"mine"
    server.plan = [http.send(CONTENT)]
    assert fetch(tmp_path, server).read_bytes() == CONTENT
    assert target.with_name("images.gz.old1").read_bytes() == b"older"
    assert target.with_name("images.gz.old2").read_bytes() == b"mine"
    assert "it is images.gz.old2 now" in caplog.text


def test_every_data_set_has_two_mirrors_and_pinned_hashes() -> None:
    for name in ("mnist", "fashion-mnist"):
        named = DATASETS[name]
        assert [*named.images] == [*named.labels] == [*SPLITS]
        for file in (*named.images.values(), *named.labels.values()):
            algorithm, _, digest = file.digest.partition(":")
            assert len(digest) == {"sha256": 64, "md5": 32}[algorithm]
            assert len({site.split("/")[2] for site in file.sites}) == 2
    cifar = DATASETS["cifar10"]  # its page is its only one
    assert cifar.archive is not None
    for file in (cifar.archive, *cifar.batches["train"], *cifar.batches["test"]):
        assert len(file.digest.removeprefix("sha256:")) == 64


def test_canonical_mnist_files_are_recognised(mnist_dir: Path) -> None:
    for split in SPLITS:
        file = DATASETS["mnist"].images[split]
        assert find_or_fetch(file, "mnist", mnist_dir) == mnist_dir / file.name
