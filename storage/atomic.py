"""What outlives a power cut: bytes reach the disk before the name that vouches for them."""

import os
from pathlib import Path


def sync_tree(path: Path) -> None:
    """Flush a file, or a folder with all that lies under it, to the disk."""
    if path.is_dir():
        for folder, _, files in os.walk(path, topdown=False):
            for name in files:
                _sync(Path(folder, name))
            _sync(Path(folder))
    else:
        _sync(path)


def replace_durably(staging: Path, path: Path) -> None:
    """Move a finished file or folder to its name, in one step, its content flushed before.

    A file of that name is replaced; so is a folder that is empty.
    Raises: OSError where the name is that of a folder with content.
    """
    sync_tree(staging)
    os.replace(staging, path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders, nor need it
        return
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
