"""Objects that were read, kept on a disk of this machine: passes ask for them again and again."""

import os
import shutil
import tempfile
import weakref
from threading import Lock
from typing import BinaryIO

from storage.mapped_files import lies_in_memory, scratch_folder

_SHARE = 2  # of the disk's room, one part in so many is taken at most


class KeptObjects:
    """In a scratch file without a name, which goes with this; threads may ask at once.

    Nothing is kept where there is no disk for scratch files, and no more where it is full.
    """

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._places: dict[str, tuple[int, int]] = {}  # key -> start and length
        self._end = self._room = 0
        self._lock = Lock()

    def get(self, key: str) -> bytes | None:
        """The bytes that were kept under a key, unchecked; None where there are none."""
        if self._file is None or key not in self._places:
            return None
        start, length = self._places[key]
        return os.pread(self._file.fileno(), length, start)

    def keep(self, key: str, content: bytes) -> None:
        """Keep what was read, if there is room."""
        with self._lock:
            if self._file is None:
                self._begin()
            start = self._end
            if key in self._places or self._file is None or start + len(content) > self._room:
                return
            self._end += len(content)
        try:
            written = os.pwrite(self._file.fileno(), content, start)
        except OSError:  # the disk is full: it is read again
            self._room = 0
        else:
            if written == len(content):
                self._places[key] = start, written

    def drop(self, key: str) -> None:
        """Forget what is kept under a key."""
        self._places.pop(key, None)

    def _begin(self) -> None:
        """Open the file, if there can be one."""
        folder = scratch_folder()
        if not self._places and hasattr(os, "pread") and not lies_in_memory(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # it stays open
            weakref.finalize(self, self._file.close)
            self._room = shutil.disk_usage(folder).free // _SHARE

    def __reduce__(self) -> tuple[type["KeptObjects"], tuple[()]]:
        """Another process keeps its own."""
        return KeptObjects, ()
