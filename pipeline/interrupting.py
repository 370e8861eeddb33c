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
from contextlib import contextmanager
from typing import NoReturn

GRACE = 0.8  # seconds that the process has to end by itself
SIGNALS = (signal.SIGINT, signal.SIGTERM)
LAST_WORDS = (
    "interrupted: run the same command again, it goes on from its last complete pass or chunk"
)
_ending = threading.Lock()


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
    before = [signal.signal(number, _interrupt) for number in SIGNALS]
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader,), name="interrupts", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in zip(SIGNALS, before, strict=True):
            if signal.getsignal(number) is _interrupt:  # or the process is about to end
                signal.signal(number, handler)
        writer.close()


def end(code: int) -> NoReturn:
    """Say how to go on, on standard error, and exit at once, children included.

    Without clearing up: threads would be waited for, and half-done tasks would complain.
    """
    import psutil  # in use by then, or quick to load

    with _ending:  # of two threads that come here one waits for the exit
        for child in psutil.Process().children(recursive=True):
            child.kill()
        sys.stdout.flush()
        sys.stderr.write("\n" * sys.stderr.isatty() + f"{LAST_WORDS}\n")  # a bar may stand there
        sys.stderr.flush()
        os._exit(code)


def _interrupt(number: int, _: object) -> NoReturn:
    for each in SIGNALS:  # once is enough: another would break into the clearing up
        signal.signal(each, signal.SIG_IGN)
    raise Interrupted(number)


def _watch(reader: socket.socket) -> None:
    with reader:
        while received := reader.recv(1):
            if (number := received[0]) in SIGNALS:
                time.sleep(GRACE)
                end(128 + number)
