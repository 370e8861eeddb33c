"""Ctrl-C and SIGTERM end the process within two seconds, whatever it is in the middle of.

Python acts on a signal between two bytecodes of the main thread, which may be inside a compiled
kernel, or joining a thread that is. So the end is asked for, and made after a while: what lies on
disk is whole at any moment.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

GRACE = 0.8  # seconds that the process has to end by itself
HURRY = 0.5  # and to say its last words
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAST_WORDS = (
    "interrupted: run the same command again, it goes on from its last complete pass or chunk"
)
_ending = threading.Lock()
_received: list[int] = []


class Interrupted(KeyboardInterrupt):
    """A signal asks for the end. code: exit code, as shells have it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


@contextmanager
def ending_promptly() -> Iterator[None]:
    """Raises Interrupted in the main thread upon either signal; makes the end if that is in vain.

    To be used in the main thread.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    # What is ignored stays so: a shell's background jobs are not meant by Ctrl-C.
    heeded = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = [signal.signal(number, _interrupt) for number in heeded]
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="interrupts", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(heeded, before, strict=True):
            if signal.getsignal(number) is _interrupt:  # or the process is about to end
                signal.signal(number, handler)
        writer.close()


def end(code: int) -> NoReturn:
    """Say how to go on, on standard error, and exit at once, children included.

    Without clearing up: threads would be waited for, and half-done tasks would complain.
    """
    import psutil  # in use by then, or quick to load

    with _ending:  # of two threads that come here one waits for the exit
        last = threading.Timer(HURRY, os._exit, (code,))  # who reads the words may have stopped
        last.daemon = True
        last.start()
        try:
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):  # gone meanwhile
                    child.kill()
            with suppress(OSError, ValueError):  # nobody reads them any more
                sys.stdout.flush()
                words = "\n" * sys.stderr.isatty() + LAST_WORDS  # a bar may stand there
                sys.stderr.write(f"{words}\n")
                sys.stderr.flush()
        finally:
            os._exit(code)


def asked_to_end() -> int | None:
    """The exit code, if a signal has come."""
    return 128 + _received[0] if _received else None


def _interrupt(number: int, _: object) -> NoReturn:
    _received.append(number)
    for each in SIGNALS:  # once is enough: another would break into the clearing up
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def _watch(reader: socket.socket) -> None:
    with reader:
        while received := reader.recv(1):
            if (number := received[0]) in SIGNALS:
                time.sleep(GRACE)
                end(128 + number)
