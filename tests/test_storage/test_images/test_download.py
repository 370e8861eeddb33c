"""Downloads against a real HTTP server on this machine."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from storage.errors import InputError
from storage.images.download import IMAGE_FILES, RemoteFile, find_or_fetch

CONTENT = gzip.compress(b"pixels" * 1000, mtime=0)


class Server:
    """Serves a folder and counts what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                server.requests.append(self.path)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    (folder / "good").mkdir(parents=True)
    (folder / "bad").mkdir()
    (folder / "good" / "images.gz").write_bytes(CONTENT)
    (folder / "bad" / "images.gz").write_bytes(CONTENT[:-1])
    server = Server(folder)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


def remote(server: Server, *mirrors: str) -> RemoteFile:
    return RemoteFile(
        "images.gz",
        f"sha256:{hashlib.sha256(CONTENT).hexdigest()}",
        tuple(f"{server.url}{mirror}/" for mirror in mirrors),
        f"md5:{hashlib.md5(b'pixels' * 1000).hexdigest()}",
    )


@pytest.mark.parametrize("first", ["absent", "bad"])
def test_second_mirror_is_tried(server: Server, tmp_path: Path, first: str) -> None:
    path = find_or_fetch(remote(server, first, "good"), "set", tmp_path / "data")
    assert path == tmp_path / "data" / "set" / "images.gz"
    assert path.read_bytes() == CONTENT


def test_all_mirrors_failing_names_each_and_the_remedy(server: Server, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent/ \(HTTP 404\).*bad/ \(wrong hash\).*by hand"):
        find_or_fetch(remote(server, "absent", "bad"), "set", tmp_path / "data")
    assert list((tmp_path / "data").rglob("*")) == []


@pytest.mark.parametrize("place", ["images.gz", "set/images.gz", "images", "set/images"])
def test_right_file_is_used_without_a_request(server: Server, tmp_path: Path, place: str) -> None:
    path = tmp_path / "data" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT if place.endswith(".gz") else b"pixels" * 1000)
    assert find_or_fetch(remote(server, "good"), "set", tmp_path / "data") == path
    assert server.requests == []


def test_another_file_of_that_name_is_left_alone(server: Server, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    other = tmp_path / "data" / "images.gz"
    other.write_bytes(b"mine")
    found = find_or_fetch(remote(server, "good"), "set", tmp_path / "data")
    assert found.parent.name == "set"
    assert other.read_bytes() == b"mine"


def test_every_data_set_has_two_mirrors_and_a_pinned_hash() -> None:
    assert set(IMAGE_FILES) == {
        (name, split) for name in ("mnist", "fashion-mnist") for split in ("train", "test")
    }
    for file in IMAGE_FILES.values():
        algorithm, _, digest = file.digest.partition(":")
        assert len(digest) == {"sha256": 64, "md5": 32}[algorithm]
        assert len({site.split("/")[2] for site in file.sites}) == 2


def test_canonical_mnist_files_are_recognised(mnist_dir: Path) -> None:
    for split in ("train", "test"):
        file = IMAGE_FILES["mnist", split]
        assert find_or_fetch(file, "mnist", mnist_dir) == mnist_dir / file.name
