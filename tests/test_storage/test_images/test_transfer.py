"""Downloads from servers that fail in every way, over real connections."""

import errno
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import InputError
from storage.images import download as downloads
from storage.images import transfer as storage_transfer
from storage.images.download import RemoteFile, find_or_fetch
from tests import http_faults as http
from tests.http_faults import FaultyServer

CONTENT = gzip.compress(np.random.default_rng(0).bytes(150_000), mtime=0)
OTHER = gzip.compress(np.random.default_rng(1).bytes(150_000), mtime=0)
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
CUT = 50_000


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "BACKOFF_SECONDS", 0.02)
    monkeypatch.setattr(storage_transfer, "SILENCE_SECONDS", 0.3)
    monkeypatch.setattr(storage_transfer, "RATE_SECONDS", 0.5)
    monkeypatch.setattr(storage_transfer, "LONGEST_RETRY_AFTER", 2.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def servers() -> Iterator[list[FaultyServer]]:
    started = [FaultyServer(), FaultyServer()]
    yield started
    for server in started:
        server.close()


@pytest.fixture
def server(servers: list[FaultyServer]) -> FaultyServer:
    return servers[0]


def fetch(data: Path, *servers: FaultyServer) -> Path:
    sites = tuple(server.url for server in servers)
    return find_or_fetch(RemoteFile("images.gz", DIGEST, sites), "set", data)


def assert_fetched(data: Path, *servers: FaultyServer) -> None:
    """It arrives whole, and alone."""
    path = fetch(data, *servers)
    assert path.read_bytes() == CONTENT
    assert [found.name for found in path.parent.iterdir()] == ["images.gz"]


def refusal(data: Path, *servers: FaultyServer) -> str:
    with pytest.raises(InputError) as caught:
        fetch(data, *servers)
    assert str(caught.value).isprintable()
    assert not (data / "set" / "images.gz").exists()
    return str(caught.value)


def ranges(server: FaultyServer) -> list[str | None]:
    return [request.get("Range") for request in server.requests]


@pytest.mark.parametrize(
    "fault",
    [
        http.refuse(500),
        http.refuse(502),
        http.refuse(503),
        http.refuse(504),
        http.refuse(408),
        http.refuse(429, Retry_After="0"),
        http.refuse(503, Retry_After="nonsense"),
        http.Handler.hang_up,
        http.cut(CONTENT, 0),
        http.stall(CONTENT, 0, 0.6),
    ],
    ids=["500", "502", "503", "504", "408", "429", "nonsense", "hang up", "cut", "silent"],
)
def test_faults_that_may_pass_are_tried_again(
    server: FaultyServer, tmp_path: Path, fault: http.Answer
) -> None:
    server.plan = [fault, fault, http.send(CONTENT)]
    assert_fetched(tmp_path, server)
    assert len(server.requests) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 404, 410, 416, 451, 501])
def test_refusals_are_not_asked_again(server: FaultyServer, tmp_path: Path, code: int) -> None:
    server.plan = [http.refuse(code)]
    assert f"(HTTP {code})" in refusal(tmp_path, server)
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_tries_are_few_and_waits_grow(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    server.plan = [http.refuse(503)]
    assert "(HTTP 503); fetch it by hand into" in refusal(tmp_path, server)
    assert len(server.requests) == 4
    assert waits == [0.02, 0.04, 0.08]


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_may_ask_for_some_seconds(server: FaultyServer, tmp_path: Path, form: str) -> None:
    asked = "1" if form == "seconds" else http.in_seconds(2)
    server.plan = [http.refuse(429, Retry_After=asked), http.send(CONTENT)]
    began = time.monotonic()
    assert_fetched(tmp_path, server)
    assert 0.5 < time.monotonic() - began < 4


def test_a_server_may_not_ask_for_a_day(server: FaultyServer, tmp_path: Path) -> None:
    server.plan = [http.refuse(503, Retry_After="86400")]
    assert "HTTP 503, asks to wait more than 2 s" in refusal(tmp_path, server)
    assert len(server.requests) == 1


def test_a_cut_download_goes_on_where_it_was_cut(server: FaultyServer, tmp_path: Path) -> None:
    server.plan = [http.cut(CONTENT, CUT), http.cut(CONTENT, CUT), http.send(CONTENT)]
    assert_fetched(tmp_path, server)
    assert ranges(server) == [None, f"bytes={CUT}-", f"bytes={2 * CUT}-"]
    assert [request.get("If-Range") for request in server.requests] == [None, '"1"', '"1"']


def test_cut_chunks_are_noticed_and_go_on(server: FaultyServer, tmp_path: Path) -> None:
    server.plan = [http.cut_chunks(CONTENT, CUT), http.send(CONTENT)]
    assert_fetched(tmp_path, server)
    assert ranges(server) == [None, f"bytes={CUT}-"]


def test_a_server_without_ranges_starts_again(server: FaultyServer, tmp_path: Path) -> None:
    server.plan = [http.cut(CONTENT, CUT), http.send_whole(CONTENT)]
    assert_fetched(tmp_path, server)
    assert len(server.requests) == 2


def test_a_file_that_changed_in_between_starts_again(server: FaultyServer, tmp_path: Path) -> None:
    server.plan = [http.cut(OTHER, CUT, '"0"'), http.send(CONTENT)]
    assert_fetched(tmp_path, server)
    assert len(server.requests) == 2  # If-Range told


def test_another_mirror_goes_on(servers: list[FaultyServer], tmp_path: Path) -> None:
    servers[0].plan, servers[1].plan = [http.cut(CONTENT, CUT)], [http.send(CONTENT)]
    assert_fetched(tmp_path, *servers)
    assert ranges(servers[1]) == [f"bytes={CUT}-"]


def test_a_beginning_of_another_file_starts_again(
    servers: list[FaultyServer], tmp_path: Path
) -> None:
    servers[0].plan, servers[1].plan = [http.cut(OTHER, CUT)], [http.send(CONTENT)]
    assert_fetched(tmp_path, *servers)
    assert ranges(servers[1]) == [f"bytes={CUT}-", None]


def test_a_wrong_range_is_refused(server: FaultyServer, tmp_path: Path) -> None:
    def wrong(handler: http.Handler) -> None:
        handler.head(206, Content_Range="bytes 7-9/10", Content_Length=3)
        handler.wfile.write(b"abc")

    server.plan = [http.cut(CONTENT, CUT), wrong]
    assert f"sent bytes from 7 on, not {CUT}" in refusal(tmp_path, server)


def test_the_next_command_goes_on(server: FaultyServer, tmp_path: Path) -> None:
    server.plan = [http.cut(CONTENT, CUT), http.Handler.hang_up]
    message = refusal(tmp_path, server)
    assert f"its first {CUT} bytes are kept, run again to go on" in message
    assert "by hand" in message
    server.plan, server.requests = [http.send(CONTENT)], []
    assert_fetched(tmp_path, server)
    assert ranges(server) == [f"bytes={CUT}-"]


def test_a_whole_rest_of_a_killed_process_is_taken(server: FaultyServer, tmp_path: Path) -> None:
    work = tmp_path / "set" / ".images.gz.unfinished"
    work.mkdir(parents=True)
    (work / "partial").write_bytes(CONTENT)
    (work / "tmp12345").touch()
    server.plan = [http.send(CONTENT)]
    assert_fetched(tmp_path, server)
    assert len(server.requests) == 1  # HTTP 416


def test_a_longer_rest_is_thrown_away(server: FaultyServer, tmp_path: Path) -> None:
    work = tmp_path / "set" / ".images.gz.unfinished"
    work.mkdir(parents=True)
    (work / "partial").write_bytes(CONTENT + b"x")
    server.plan = [http.send(CONTENT)]
    assert_fetched(tmp_path, server)


def test_a_wrong_hash_is_refused_and_not_kept(servers: list[FaultyServer], tmp_path: Path) -> None:
    for server in servers:
        server.plan = [http.send(OTHER)]
    message = refusal(tmp_path, *servers)
    assert [f"{server.url} (wrong hash)" in message for server in servers] == [True, True]
    assert [len(server.requests) for server in servers] == [1, 1]
    assert list(tmp_path.iterdir()) == []


def test_a_file_labelled_as_gzipped_on_the_way_is_taken_as_it_is(
    server: FaultyServer, tmp_path: Path
) -> None:
    server.plan = [http.send(CONTENT, Content_Encoding="gzip")]
    assert_fetched(tmp_path, server)


def test_redirect_loops_end(server: FaultyServer, tmp_path: Path) -> None:
    server.plan = [http.redirect("/images.gz")]
    assert "(TooManyRedirects)" in refusal(tmp_path, server)
    assert len(server.requests) <= 11


@pytest.mark.parametrize("scheme", ["file", "ftp"])
def test_redirects_stay_with_http(server: FaultyServer, tmp_path: Path, scheme: str) -> None:
    (tmp_path / "local.gz").write_bytes(CONTENT)
    server.plan = [http.redirect(f"{scheme}://{tmp_path}/local.gz")]
    assert "(InvalidSchema)" in refusal(tmp_path / "data", server)


def test_a_silent_server_is_left(servers: list[FaultyServer], tmp_path: Path) -> None:
    servers[0].plan, servers[1].plan = [http.stall(CONTENT, CUT, 1)], [http.send(CONTENT)]
    began = time.monotonic()
    assert_fetched(tmp_path, *servers)
    assert time.monotonic() - began < 2
    assert ranges(servers[1]) == [f"bytes={CUT}-"]


def test_a_dripping_server_is_left(servers: list[FaultyServer], tmp_path: Path) -> None:
    servers[0].plan, servers[1].plan = [http.drip(CONTENT[:30], 0.05)], [http.send(CONTENT)]
    began = time.monotonic()
    assert_fetched(tmp_path, *servers)
    assert time.monotonic() - began < 3  # 30 bytes in steps shorter than a silence


def test_an_endless_file_does_not_fill_the_disk(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_transfer, "MOST_BYTES", 1 << 20)

    def endless(handler: http.Handler) -> None:
        handler.head(200)
        while True:
            handler.wfile.write(bytes(1 << 16))

    server.plan = [endless]
    assert "sends more than 1048576 bytes" in refusal(tmp_path, server)
    assert list(tmp_path.iterdir()) == []


def test_no_network_is_said_soon(tmp_path: Path) -> None:
    closed = FaultyServer()
    closed.close()
    assert "(ConnectionError)" in refusal(tmp_path, closed)
    assert list(tmp_path.iterdir()) == []


def test_a_dead_proxy_is_named(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.plan = [http.send(CONTENT)]
    closed = FaultyServer()
    closed.close()
    monkeypatch.setenv("http_proxy", closed.url)
    monkeypatch.setenv("no_proxy", "")
    assert "(ProxyError)" in refusal(tmp_path, server)
    assert server.requests == []


def test_a_proxy_is_used(
    servers: list[FaultyServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, _ = servers
    proxy.plan = [http.send(CONTENT)]
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    file = RemoteFile("images.gz", DIGEST, ("http://no.such.host.invalid/",))
    assert find_or_fetch(file, "set", tmp_path).read_bytes() == CONTENT
    assert proxy.requests[0]["path"] == "http://no.such.host.invalid/images.gz"


class TestWhatWasThere:
    """Nothing of worth under the file's name is lost."""

    @pytest.fixture
    def target(self, tmp_path: Path) -> Path:
        target = tmp_path / "set" / "images.gz"
        target.parent.mkdir()
        target.write_bytes(b"mine")
        return target

    def test_it_gets_another_name(self, server: FaultyServer, target: Path, caplog: Any) -> None:
        target.with_name("images.gz.old1").write_bytes(b"older")
        server.plan = [http.send(CONTENT)]
        assert fetch(target.parents[1], server) == target
        assert target.read_bytes() == CONTENT
        assert target.with_name("images.gz.old1").read_bytes() == b"older"
        assert target.with_name("images.gz.old2").read_bytes() == b"mine"
        assert "it is images.gz.old2 now" in caplog.text

    @pytest.mark.parametrize("answer", [http.send(OTHER), http.refuse(404)])
    def test_it_stays_where_there_is_no_better(
        self, server: FaultyServer, target: Path, answer: http.Answer
    ) -> None:
        server.plan = [answer]
        with pytest.raises(InputError, match="which is another file, is as it was"):
            fetch(target.parents[1], server)
        assert [path.name for path in target.parent.iterdir()] == ["images.gz"]
        assert target.read_bytes() == b"mine"

    def test_a_link_is_not_written_through(
        self, server: FaultyServer, tmp_path: Path, target: Path
    ) -> None:
        outside = tmp_path / "outside"
        outside.write_bytes(b"theirs")
        target.unlink()
        target.symlink_to(outside)
        server.plan = [http.send(CONTENT)]
        assert fetch(tmp_path, server).read_bytes() == CONTENT
        assert outside.read_bytes() == b"theirs"


class FullDisk:
    """A file on a disk with room for some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def seek(self, place: int) -> int:
        return int(self.file.seek(place))

    def write(self, block: bytes) -> int:
        self.room -= len(block)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(block))


def test_a_full_disk_is_one_line_and_leaves_no_rest(
    server: FaultyServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, mode="r": FullDisk(opened(path, mode), CUT))
    server.plan = [http.send(CONTENT)]
    message = refusal(tmp_path, server)
    assert "No space left on device; make room or choose another DATA" in message
    assert str(tmp_path / "set") in message
    assert len(server.requests) == 1
    assert list(tmp_path.iterdir()) == []


FETCH = (
    "import sys\n"
    "from pathlib import Path\n"
    "from storage import InputError, downloads\n"
    "downloads.BACKOFF_SECONDS = 0.02\n"
    "file = downloads.RemoteFile('images.gz', sys.argv[1], (sys.argv[2],))\n"
    "try:\n"
    "    print(downloads.find_or_fetch(file, 'set', Path(sys.argv[3])))\n"
    "except InputError as error:\n"
    "    print(error)\n"
)


def command(server: FaultyServer, data: Path) -> list[str]:
    return [sys.executable, "-c", FETCH, DIGEST, server.url, str(data)]


def test_a_disk_that_is_really_full(server: FaultyServer, tmp_path: Path) -> None:
    mount = ["unshare", "-Urm", "sh", "-c"]
    try:
        subprocess.run([*mount, "mount -t tmpfs none /mnt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a small disk: unshare -Urm is refused")
    program = 'mount -t tmpfs -o size=64k none "$0" && "$@" && find "$0" -mindepth 1'
    server.plan = [http.send(CONTENT)]
    done = subprocess.run(
        [*mount, program, str(tmp_path), *command(server, tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    line, *rest = done.stdout.splitlines()
    assert "No space left on device; make room or choose another DATA" in line
    assert rest == []
    assert "Traceback" not in done.stderr


def test_two_processes_fetch_once(server: FaultyServer, tmp_path: Path) -> None:
    def slow(handler: http.Handler) -> None:
        time.sleep(1.0)
        http.send(CONTENT)(handler)

    server.plan = [slow]
    both = [
        subprocess.Popen(command(server, tmp_path), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = [process.communicate(timeout=30)[0].strip() for process in both]
    assert found == [str(tmp_path / "set" / "images.gz")] * 2
    assert len(server.requests) == 1
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["images.gz"]


def test_who_waits_for_a_process_that_fails_tries_itself(
    server: FaultyServer, tmp_path: Path
) -> None:
    def slow(handler: http.Handler) -> None:
        time.sleep(1.0)
        http.refuse(404)(handler)

    server.plan = [slow, http.send(CONTENT)]
    both = [
        subprocess.Popen(command(server, tmp_path), stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    found = sorted(process.communicate(timeout=30)[0].strip() for process in both)
    assert found[0] == str(tmp_path / "set" / "images.gz")
    assert "(HTTP 404)" in found[1]


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_process_leaves_what_the_next_goes_on_from(
    server: FaultyServer, tmp_path: Path, sign: signal.Signals
) -> None:
    sent = threading.Event()

    def wait(handler: http.Handler) -> None:
        handler.head(200, Content_Length=len(CONTENT))
        handler.wfile.write(CONTENT[:CUT])
        handler.wfile.flush()
        sent.wait(10)

    server.plan = [wait, http.send(CONTENT)]
    process = subprocess.Popen(command(server, tmp_path), stderr=subprocess.PIPE)
    partial = tmp_path / "set" / ".images.gz.unfinished" / "partial"
    deadline = time.monotonic() + 20
    while not (partial.exists() and partial.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(sign)
    process.communicate(timeout=10)
    sent.set()
    assert process.returncode == -sign
    assert 0 < partial.stat().st_size <= CUT
    assert_fetched(tmp_path, server)
    assert (ranges(server)[-1] or "").startswith("bytes=")
