"""Whole or not at all, and one process at a time."""

import json
import multiprocessing
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from storage import BusyError
from storage.atomic import (
    ORPHANED_SECONDS,
    exclusive,
    remove_orphans,
    replace_durably,
    staged,
    write_whole,
)
from storage.places.lease import holds
from tests.notes import Notes

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order in which they are flushed, and `replace` where the name is given."""
    order: list[str] = []
    replace = os.replace

    def fsync(handle: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{handle}"))

    def noted(source: Path, target: Path) -> None:
        order.append("replace")
        replace(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not say what a handle is open on")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", noted)
    return order


def test_content_reaches_the_disk_before_the_name(tmp_path: Path, flushed: list[str]) -> None:
    staging, path = tmp_path / "staging", tmp_path / "name"
    (staging / "inner").mkdir(parents=True)
    (staging / "inner" / "file").write_text("content")
    replace_durably(staging, path)
    assert flushed == [
        str(staging / "inner" / "file"),
        str(staging / "inner"),
        str(staging),
        "replace",
        str(tmp_path),
    ]
    assert (path / "inner" / "file").read_text() == "content"


def test_a_file_is_replaced_and_a_full_folder_is_not(tmp_path: Path, flushed: list[str]) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    replace_durably(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    assert flushed == [str(tmp_path / "new"), "replace", str(tmp_path)]
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match=r"not empty"):
        replace_durably(tmp_path / "other", tmp_path / "folder")


def test_what_is_staged_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def breaks_off() -> None:
        with staged(path) as staging:
            staging.write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        breaks_off()
    assert path.read_bytes() == b"old"
    with staged(path) as staging:
        staging.write_bytes(b"new")
        assert (path.read_bytes(), staging.name[:6]) == (b"old", ".file.")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_is_staged_beside_another_name_is_moved_into_it(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    with staged(tmp_path / "tree" / "group", beside=tmp_path / "tree") as staging:
        staging.mkdir()
        assert staging.parent == tmp_path
    assert [path.name for path in (tmp_path / "tree").iterdir()] == ["group"]


def test_orphans_go_and_what_is_being_written_stays(tmp_path: Path) -> None:
    old, new, folder = (tmp_path / f".file.{name}.partial" for name in ("old", "new", "folder"))
    folder.mkdir()
    for path in (old, new, folder / "inner"):
        path.touch()
    past = time.time() - ORPHANED_SECONDS - 60
    os.utime(old, (past, past))
    os.utime(folder, (past, past))  # something in it is new
    remove_orphans(tmp_path / "file")
    assert {path.name for path in tmp_path.iterdir()} == {new.name, folder.name}


FORKING = multiprocessing.get_context("forkserver")


def hold(lock: Path, pipe: Connection) -> None:
    with exclusive(lock, "at work"):
        pipe.send("held")
        pipe.poll(60)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[tuple[Path, Any, Callable[[], None]]]:
    """A lock that another process holds, the process, and what makes it let go."""
    here, there = FORKING.Pipe()
    process = FORKING.Process(target=hold, args=(tmp_path / "here" / ".lock", there))
    process.start()
    assert here.recv() == "held"
    yield tmp_path / "here" / ".lock", process, lambda: here.send("enough")
    process.kill()
    process.join()
    process.close()
    here.close()
    there.close()


@needs_signals
def test_the_second_is_told_who_is_at_work_and_since_when(holder: Any) -> None:
    lock, process, _ = holder
    with pytest.raises(BusyError) as caught, exclusive(lock, "building a store"):
        pass
    told = re.fullmatch(
        rf"process {process.pid} on {re.escape(socket.gethostname())}, since (.*), is building a"
        r" store: wait until it is done, or choose another OUT",
        str(caught.value),
    )
    assert told
    since = time.mktime(time.strptime(told[1][:19], "%Y-%m-%d %H:%M:%S"))
    assert abs(time.time() - since) < 60


@needs_signals
def test_the_second_waits_where_it_may(holder: Any) -> None:
    lock, process, enough = holder
    notes = Notes()
    notes.note = lambda text: (notes.lines.append(text), enough())  # type: ignore[assignment]
    with exclusive(lock, "building a store", wait=notes.note):
        process.join(10)
        assert process.exitcode == 0
    (line,) = notes.lines
    assert line.startswith(f"waiting: process {process.pid} on ")


@needs_signals
def test_a_lock_of_a_dead_process_is_taken_over(holder: Any) -> None:
    lock, process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    note = lock.with_name(".lock.json")
    assert str(process.pid) in note.read_text()  # what it left
    with exclusive(lock, "at work"):
        assert str(os.getpid()) in note.read_text()
    assert not note.exists()


def test_who_only_looks_at_a_lock_is_not_in_the_way(tmp_path: Path) -> None:
    """`held_by` has it for a moment, where a killed process left its note."""
    lock = FileLock(tmp_path / ".lock", thread_local=False)
    lock.acquire()
    (tmp_path / ".lock.json").write_text(json.dumps(holds()))
    glance = threading.Timer(0.05, lock.release)
    glance.start()
    with exclusive(tmp_path / ".lock", "at work"):
        pass
    glance.join()


@needs_signals
def test_a_holder_without_a_note_is_another_process(holder: Any) -> None:
    lock, *_ = holder
    for text in (None, "{", "[]", "{}"):
        note = lock.with_name(".lock.json")
        note.unlink(missing_ok=True)
        if text:
            note.write_text(text)
        with (
            pytest.raises(BusyError, match=r"^another process is at work"),
            exclusive(lock, "at work"),
        ):
            pass
