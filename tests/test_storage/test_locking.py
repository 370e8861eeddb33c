"""One process at a time; the second says who holds it, and a dead one holds nothing."""

import multiprocessing
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from storage import BusyError
from storage.locking import sole
from tests.notes import Notes

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
FORKING = multiprocessing.get_context("forkserver")


def hold(lock: Path, pipe: Connection) -> None:
    with sole(lock, "at work"):
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


def test_the_second_is_told_who_is_at_work_and_since_when(holder: Any) -> None:
    lock, process, _ = holder
    with pytest.raises(BusyError) as caught, sole(lock, "building a store"):
        pass
    told = re.fullmatch(
        rf"process {process.pid} on {re.escape(socket.gethostname())}, since (.*), is building a"
        r" store: wait until it is done, or choose another OUT",
        str(caught.value),
    )
    assert told
    since = time.mktime(time.strptime(told[1][:19], "%Y-%m-%d %H:%M:%S"))
    assert abs(time.time() - since) < 60


def test_the_second_waits_where_it_may(holder: Any) -> None:
    lock, process, enough = holder
    notes = Notes()
    notes.note = lambda text: (notes.lines.append(text), enough())  # type: ignore[assignment]
    with sole(lock, "building a store", wait=notes):
        process.join(10)
        assert process.exitcode == 0
    (line,) = notes.lines
    assert line.startswith(f"waiting: process {process.pid} on ")


def test_a_lock_of_a_dead_process_is_taken_over(holder: Any) -> None:
    lock, process, _ = holder
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    note = lock.with_name(".lock.json")
    assert str(process.pid) in note.read_text()  # what it left
    with sole(lock, "at work"):
        assert str(os.getpid()) in note.read_text()
    assert not note.exists()


def test_a_holder_without_a_note_is_another_process(holder: Any) -> None:
    lock, *_ = holder
    for text in (None, "{", "[]", "{}"):
        note = lock.with_name(".lock.json")
        note.unlink(missing_ok=True)
        if text:
            note.write_text(text)
        with pytest.raises(BusyError, match=r"^another process is at work"), sole(lock, "at work"):
            pass
