"""Compiled kernels kept on disk by numba, and when they are too old to be used."""

from pathlib import Path
from typing import Any

LOADED_BYTES = 64 << 20  # of all kernels, read from disk
COMPILED_BYTES = 256 << 20  # the same with what LLVM holds after compiling them


def code_bytes(kernel: Any) -> int:
    """What the kernels will take in this process, in bytes, at most; by one that all work needs."""
    if kernel.signatures:  # they are there
        return 0
    kept = Path(kernel.stats.cache_path).glob(f"*.{kernel.__qualname__}-*.nbi")
    return LOADED_BYTES if any(kept) else COMPILED_BYTES


def drop_stale(folder: Path) -> None:
    """Delete kernels compiled before any source in the folder changed.

    Numba looks at the file of a kernel alone, but kernels hold what they call in other files.
    Assumes numba's own place for them, `__pycache__` beside the sources.
    """
    changed = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for kernels in (folder / "__pycache__").glob("*.nb[ic]"):
        if kernels.stat().st_mtime < changed:
            kernels.unlink(missing_ok=True)
