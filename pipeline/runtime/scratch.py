"""Where scratch files lie: on a disk rather than in memory, where there is a choice."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")  # kinds of file systems


def scratch_folder(store: Path | None = None) -> Path:
    """A folder for scratch files of work on rows.

    Args:
        store: the patch store that the rows come from, if any.

    Returns:
        The first of these that can be written and is no memory: the folder of the store, the
        system's for temporary files (TMPDIR), the working folder. The system's where none is.
    """
    system = Path(tempfile.gettempdir())
    folders = [system] if store is None else [store.parent, system]
    with suppress(FileNotFoundError):  # it may have been deleted
        folders.append(Path.cwd())
    usable = (f for f in folders if os.access(f, os.W_OK) and not lies_in_memory(f))
    return next(usable, system)


def lies_in_memory(folder: Path) -> bool:
    """Whether files in a folder, which need not be there yet, take memory."""
    kinds = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    place = folder.resolve()
    mounted = next((parent for parent in (place, *place.parents) if parent in kinds), None)
    return mounted is not None and kinds[mounted] in IN_MEMORY
