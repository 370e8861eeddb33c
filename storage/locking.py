"""One process at a time: a lock file, and beside it a note of who holds it and since when.

The lock is the operating system's, so that it ends with the process that holds it, however that
ends; the note alone may be left behind, and is overwritten by the next holder.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.runtime.progress import Progress
from storage.errors import BusyError


@contextmanager
def sole(lock: Path, what: str, *, wait: Progress | None = None) -> Iterator[None]:
    """Holds the lock file, whose folder is made if need be.

    what: is done with it, as in "building runs/patches/digits.zarr", for those who come second.
    wait: they say so there and wait; None: they are refused.
    Raises: BusyError where another process holds it.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    file = FileLock(lock)
    try:
        file.acquire(timeout=0)
    except Timeout:
        holder = f"{_holder(lock)} is {what}"
        if wait is None:
            raise BusyError(f"{holder}: wait until it is done, or choose another OUT") from None
        wait.note(f"waiting: {holder}")
        file.acquire()
    try:
        _note(lock).write_text(
            json.dumps(
                {
                    "process": os.getpid(),
                    "host": socket.gethostname(),
                    "since": datetime.now().astimezone().isoformat(" ", "seconds"),
                }
            )
        )
        yield
    finally:
        _note(lock).unlink(missing_ok=True)
        file.release()


def _note(lock: Path) -> Path:
    return lock.with_name(lock.name + ".json")


def _holder(lock: Path) -> str:
    try:
        note = json.loads(_note(lock).read_text())
        return f"process {note['process']} on {note['host']}, since {note['since']},"
    except (OSError, ValueError, KeyError, TypeError):  # between the lock and its note
        return "another process"
