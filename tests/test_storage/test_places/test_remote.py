"""What a bucket is asked for, and what it refuses."""

import json
import os
import socket
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from storage.errors import BusyError, InputError, RemoteError
from storage.places import lease
from storage.places.place import bytes_below, each, files_below, place_of, read_start, writable
from storage.places.remote import RemotePlace
from tests.buckets import SlowProxy, cut, refuse

needs_library = pytest.mark.skipif(
    find_spec("obstore") is None, reason="no obstore: pip install 'patchdict[remote]'"
)


def test_a_place_has_the_methods_of_a_path(place: RemotePlace) -> None:
    assert not place.exists()
    (place / "a.zarr" / "c" / "0").write_bytes(b"first")
    (place / "a.zarr" / "zarr.json").write_bytes(b"{}")
    (place / "b.txt").write_bytes(b"text")
    assert place.is_dir()
    assert not place.is_file()
    assert (place / "b.txt").is_file()
    assert [found.name for found in place.iterdir()] == ["a.zarr", "b.txt"]
    assert [str(found) for found in place.glob("*/zarr.json")] == [f"{place}/a.zarr/zarr.json"]
    assert [found.name for found in place.glob("*.txt")] == ["b.txt"]
    assert [key for key, _ in files_below(place)] == ["a.zarr/c/0", "a.zarr/zarr.json", "b.txt"]
    assert bytes_below(place) == 11
    assert read_start(place / "b.txt", 2) == b"te"
    assert (place / "b.txt").stat().st_size == 4
    with pytest.raises(FileNotFoundError):
        (place / "nothing").read_bytes()
    place.remove_tree()
    assert not place.exists()


def test_what_a_url_needs_is_told_before_anything_is_looked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("storage.places.client.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"s3://bucket needs the package obstore .* pip install"):
        place_of("s3://bucket/runs")


@needs_library
def test_names_of_places_are_those_of_paths() -> None:
    for text in ("s3://bucket/a/b.tar.gz", "s3://bucket/a/.hidden", "s3://bucket/a"):
        place, path = place_of(text), Path(text.removeprefix("s3:/"))
        assert (place.name, place.stem, place.suffix) == (path.name, path.stem, path.suffix)
        assert place.with_name("c").name == path.with_name("c").name
        assert str(place.parent) == f"s3:/{path.parent}"
    assert str(RemotePlace.of("s3://bucket//a/./b/")) == "s3://bucket/a/b"
    assert str(RemotePlace.of("https://host/a%20b.npy")) == "https://host/a b.npy"


@pytest.mark.parametrize(
    "url", ["ftp://host/a", "file:///tmp/a", "s3://", "s3://bucket/../a", "https://host/a?token=1"]
)
def test_other_urls_are_refused_in_a_line(url: str) -> None:
    with pytest.raises(InputError):
        place_of(url)


@needs_library
def test_web_sites_can_only_be_read() -> None:
    with pytest.raises(InputError, match="only be read"):
        writable(place_of("https://host/runs"))


def test_an_object_is_put_only_where_there_is_none(place: RemotePlace) -> None:
    assert (place / "a").put_new(b"mine")
    assert (place / "a").put_new(b"other") is None
    assert (place / "a").put_new(b"mine")  # as after an answer that was lost
    assert (place / "a").read_bytes() == b"mine"


def test_an_object_is_put_only_over_the_one_that_was_read(place: RemotePlace) -> None:
    tag = (place / "a").write_bytes(b"first")
    newer = (place / "a").put_over(b"second", tag)
    assert newer
    assert (place / "a").put_over(b"third", tag) is None
    assert (place / "a").read_tagged() == (b"second", newer)


def test_what_a_server_refuses_is_an_error_and_not_absent(
    bucket: RemotePlace, served: SlowProxy
) -> None:
    (bucket / "a").write_bytes(b"content")
    served.faults = [refuse(403, "/a")]
    for ask in ((bucket / "a").read_bytes, (bucket / "a").exists, (bucket / "a").stat):
        with pytest.raises(RemoteError, match="credentials"):
            ask()


def test_a_bucket_that_is_not_there_is_told(bucket: RemotePlace) -> None:
    absent = RemotePlace.of("s3://absent/runs")
    for ask in (absent.exists, absent.remove_tree, lambda: (absent / "a").write_bytes(b"")):
        with pytest.raises(RemoteError, match="there is no bucket for"):
            ask()


def test_passing_faults_are_tried_again(bucket: RemotePlace, served: SlowProxy) -> None:
    (bucket / "a").write_bytes(b"content")
    served.faults = [refuse(503, "/a", times=2), refuse(500, "/a", times=1)]
    assert (bucket / "a").read_bytes() == b"content"
    assert len([request for request in served.requests if request.startswith("GET")]) == 4


def test_lasting_faults_are_told(bucket: RemotePlace, served: SlowProxy) -> None:
    served.faults = [refuse(503, "/a")]
    started = time.monotonic()
    with pytest.raises(RemoteError, match="cannot read"):
        (bucket / "a").read_bytes()
    assert time.monotonic() - started < 20


def test_a_body_that_breaks_off_is_read_again_or_an_error(
    bucket: RemotePlace, served: SlowProxy, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4000
    (bucket / "a").write_bytes(content)
    served.faults = [cut("/a", 1000, times=1)]
    with suppress(RemoteError):
        assert (bucket / "a").read_bytes() == content
    served.faults = [cut("/a", 1000)]
    with pytest.raises(RemoteError):
        (bucket / "a").read_bytes()
    with pytest.raises(RemoteError):
        (bucket / "a").fetch(tmp_path / "a")


def test_many_objects_are_read_at_once_in_order(bucket: RemotePlace, served: SlowProxy) -> None:
    for number in range(24):
        (bucket / str(number)).write_bytes(bytes([number]))
    served.seconds = 0.1
    started = time.monotonic()
    places = [bucket / str(number) for number in range(24)]
    assert list(each(RemotePlace.read_bytes, places, bucket)) == [bytes([n]) for n in range(24)]
    assert time.monotonic() - started < 24 * 0.1 / 2


def test_a_lease_is_held_by_one(place: RemotePlace) -> None:
    with (
        lease.leased(place / ".lock", "building it", None),
        pytest.raises(BusyError, match="building it"),
        lease.leased(place / ".lock", "building it", None),
    ):
        pass
    with lease.leased(place / ".lock", "building it", None):
        told = lease.lease_holder(place / ".lock")
        assert told is not None
        assert told.startswith(f"process {os.getpid()} on {socket.gethostname()}, since ")
    assert lease.lease_holder(place / ".lock") is None
    assert not (place / ".lock").exists()


def test_who_comes_second_waits(place: RemotePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "POLLED_SECONDS", 0.02)
    told, done = list[str](), list[str]()

    def second() -> None:
        with lease.leased(place / ".lock", "building it", told.append):
            done.append("second")

    thread = threading.Thread(target=second)
    with lease.leased(place / ".lock", "building it", None):
        thread.start()
        while not told:
            time.sleep(0.01)
        done.append("first")
    thread.join()
    assert done == ["first", "second"]
    assert told[0].startswith("waiting: process ")


def test_the_lease_of_a_process_that_is_gone_is_free(place: RemotePlace) -> None:
    gone = {"process": 2**22 + 1, "host": socket.gethostname(), "since": "then", "started": 1.0}
    for note in (json.dumps(gone).encode(), b""):  # b"": of a folder that was copied there
        (place / ".lock").write_bytes(note)
        assert lease.lease_holder(place / ".lock") is None
        started = time.monotonic()
        with lease.leased(place / ".lock", "building it", None):
            assert time.monotonic() - started < 5


def test_a_lease_that_is_not_renewed_expires(
    place: RemotePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / ".lock").write_bytes(b'{"process": 1, "host": "elsewhere", "since": "then"}')
    assert lease.lease_holder(place / ".lock") == "process 1 on elsewhere, since then,"
    for name, seconds in {"EXPIRES_SECONDS": 0.3, "POLLED_SECONDS": 0.05}.items():
        monkeypatch.setattr(lease, name, seconds)
    monkeypatch.setattr(lease.time, "time", lambda: time.time_ns() / 1e9 + 2)  # whole seconds there
    assert lease.lease_holder(place / ".lock") is None
    with lease.leased(place / ".lock", "building it", None):
        pass


def test_a_holder_elsewhere_that_renews_is_found_alive(
    place: RemotePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"RENEWED_SECONDS": 0.05, "POLLED_SECONDS": 0.05}.items():
        monkeypatch.setattr(lease, name, seconds)
    monkeypatch.setattr(lease, "_alive", lambda note: None)  # as on another machine
    with (
        lease.leased(place / ".lock", "building it", None),
        pytest.raises(BusyError, match="building it"),
        lease.leased(place / ".lock", "building it", None),
    ):
        pass
