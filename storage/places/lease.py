"""A lock that is an object: who holds it says so again and again, and loses it by falling silent.

No clocks are compared: who waits sees for how long the object has not changed. Who loses a lease
goes on, and what it and the next one make is the same: that costs double work alone.
"""

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from storage.errors import BusyError, RemoteError
from storage.places.remote import RemotePlace

RENEWED_SECONDS = 5.0  # after which a holder says again that it is there
EXPIRES_SECONDS = 20.0  # without a word, after which it holds the lease no longer
POLLED_SECONDS = 1.0


def holder(note: bytes) -> str:
    """Words for who holds a lock, from the JSON that it left."""
    try:
        holds = json.loads(note)
        return f"process {holds['process']} on {holds['host']}, since {holds['since']},"
    except (ValueError, KeyError, TypeError):  # between the lock and its note
        return "another process"


def holds() -> dict[str, Any]:
    """What this process says of itself in a lock: plain JSON."""
    since = datetime.now().astimezone().isoformat(" ", "seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since}


@contextmanager
def leased(place: RemotePlace, what: str, wait: Callable[[str], None] | None) -> Iterator[None]:
    """Hold a lease; see `storage.atomic.exclusive` for the arguments and BusyError."""
    lease = _Lease(place)
    lease.take(what, wait)
    renewing = threading.Thread(target=lease.renew, name="lease", daemon=True)
    renewing.start()
    try:
        yield
    finally:
        lease.ended.set()
        renewing.join()
        with suppress(RemoteError):  # it expires
            lease.give_back()


def lease_holder(place: RemotePlace) -> str | None:
    """Words for who holds a lease now; None: nobody does.

    Of a holder on another machine the bucket's clock tells, which nothing but these words uses.
    """
    try:
        note, changed = place.read_bytes(), place.stat().st_mtime
    except FileNotFoundError:
        return None
    alive = _alive(note)
    if alive is None:
        alive = time.time() - changed < EXPIRES_SECONDS
    return holder(note) if alive else None


class _Lease:
    def __init__(self, place: RemotePlace) -> None:
        self.place, self.ended = place, threading.Event()
        self._note = holds() | {"started": _started(os.getpid()), "lease": uuid.uuid4().hex}
        self._renewals, self._tag = 0, ""

    def take(self, what: str, wait: Callable[[str], None] | None) -> None:
        """Wait until it is free, or raise BusyError where its holder is alive."""
        seen, since = "", 0.0
        while not (tag := self.place.put_new(self._content())):
            try:
                note, found = self.place.read_tagged()
            except FileNotFoundError:
                continue  # it was given back meanwhile
            silent = found == seen and time.monotonic() - since > EXPIRES_SECONDS
            if silent or _alive(note) is False:
                if tag := self.place.put_over(self._content(), found):
                    break
                continue
            if wait is None and (_alive(note) or seen not in ("", found)):
                told = f"{holder(note)} is {what}"
                raise BusyError(f"{told}: wait until it is done, or choose another OUT")
            if found != seen:
                if wait is not None and not seen:
                    wait(f"waiting: {holder(note)} is {what}")
                seen, since = found, time.monotonic()
            time.sleep(POLLED_SECONDS)
        self._tag = tag

    def renew(self) -> None:
        """Say that the holder is there, until it ends or another has taken over."""
        while not self.ended.wait(RENEWED_SECONDS):
            self._renewals += 1
            with suppress(RemoteError):  # the next time it may answer
                tag = self.place.put_over(self._content(), self._tag)
                if tag is None:
                    return
                self._tag = tag

    def give_back(self) -> None:
        """Delete it where it is still this one."""
        with suppress(FileNotFoundError):
            note, tag = self.place.read_tagged()
            if tag == self._tag and note == self._content():
                self.place.unlink(missing_ok=True)

    def _content(self) -> bytes:
        return json.dumps(self._note | {"renewals": self._renewals}).encode()


def _alive(note: bytes) -> bool | None:
    """Whether a process of this machine that left the note is there; None: nobody knows."""
    if not note:  # a lock file of a folder that was copied here
        return False
    try:
        held = json.loads(note)
        if held["host"] != socket.gethostname():
            return None
        return held["started"] is not None and _started(held["process"]) == held["started"]
    except (ValueError, KeyError, TypeError):
        return None


def _started(process: int) -> float | None:
    """When a process of this machine began; None: there is none."""
    import psutil  # takes a while to load

    try:
        return float(psutil.Process(process).create_time())
    except psutil.Error:
        return None
