"""Arrays that are mapped from files: their pages count as resident memory until they are let go."""

import mmap
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Literal, cast

import numpy as np
from numpy.typing import DTypeLike

from storage.places.place import Place

IN_MEMORY = ("tmpfs", "ramfs", "devtmpfs")  # kinds of file systems


def let_go(array: object) -> None:
    """Give back the pages of a mapped array, which are read again when they are asked for.

    Those of mode "c" hold what was written to them and stay; other arrays are as they are.
    """
    mapping = getattr(array, "_mmap", None)
    if mapping is None or not hasattr(mmap, "MADV_DONTNEED"):  # absent on Windows
        return
    if cast(np.memmap, array).mode != "c":
        mapping.madvise(mmap.MADV_DONTNEED)


def scratch_array(
    write: Callable[[BinaryIO], None],
    dtype: DTypeLike,
    shape: tuple[int, ...],
    order: Literal["C", "F"] = "C",
    folder: Path | None = None,
) -> np.memmap:
    """An array mapped from a scratch file, which has no name and goes with the array.

    Args:
        write: puts the array's bytes into the file; what it raises is passed on.
        dtype: of the array.
        shape: of the array.
        order: of the array.
        folder: of the file; None: see `scratch_folder`.
    """
    with tempfile.TemporaryFile(dir=folder or scratch_folder()) as file:
        write(cast(BinaryIO, file))
        file.flush()
        return np.memmap(cast(BinaryIO, file), dtype, "r", 0, shape, order)


def scratch_folder(store: Place | None = None) -> Path:
    """A folder for scratch files.

    Args:
        store: the patch store whose rows are worked on, if any.

    Returns:
        The first of these that can be written and is no memory: the folder of the store, the
        system's for temporary files (TMPDIR), the working folder. The system's where none is.
    """
    system = Path(tempfile.gettempdir())
    folders = [store.parent, system] if isinstance(store, Path) else [system]
    with suppress(FileNotFoundError):  # it may have been deleted
        folders.append(Path.cwd())
    usable = (f for f in folders if os.access(f, os.W_OK) and not lies_in_memory(f))
    return next(usable, system)


def lies_in_memory(folder: Path) -> bool:
    """Whether files in a folder, which need not be there yet, take memory."""
    import psutil  # takes a while to load

    kinds = {Path(disk.mountpoint): disk.fstype for disk in psutil.disk_partitions(all=True)}
    place = folder.resolve()
    mounted = next((parent for parent in (place, *place.parents) if parent in kinds), None)
    return mounted is not None and kinds[mounted] in IN_MEMORY
