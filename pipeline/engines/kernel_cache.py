"""Compiled kernels kept on disk by numba, and when they are too old to be used."""

from pathlib import Path


def drop_stale(folder: Path) -> None:
    """Delete kernels compiled before any source in the folder changed.

    Numba looks at the file of a kernel alone, but kernels hold what they call in other files.
    Assumes numba's own place for them, `__pycache__` beside the sources.
    """
    changed = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for kernels in (folder / "__pycache__").glob("*.nb[ic]"):
        if kernels.stat().st_mtime < changed:
            kernels.unlink(missing_ok=True)
