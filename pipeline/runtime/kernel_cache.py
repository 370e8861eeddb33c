"""Compiled kernels kept on disk by numba, and when they are too old to be used."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

LOADED_BYTES = 64 << 20  # of all kernels, read from disk
COMPILED_BYTES = 16 << 20  # what LLVM holds for each kernel that it compiled, on average


def code_bytes(kernels: Sequence[Any]) -> int:
    """What these kernels will take in this process, in bytes, at most."""
    missing = [kernel for kernel in kernels if not kernel.signatures]
    compiled = [kernel for kernel in missing if not _kept(kernel)]
    return LOADED_BYTES * bool(missing) + COMPILED_BYTES * len(compiled)


def _kept(kernel: Any) -> bool:
    kept = Path(kernel.stats.cache_path).glob(f"*.{kernel.__qualname__}-*.nbi")
    return any(kept)


def drop_stale(folder: Path) -> None:
    """Delete kernels compiled before any source below the folder changed.

    Numba looks at the file of a kernel alone, but kernels hold what they call in other files.
    Another process may delete the same kernels at the same time. Assumes numba's own place for
    them, `__pycache__` beside the sources.
    """
    changed = max(source.stat().st_mtime for source in folder.rglob("*.py"))
    for kernels in folder.rglob("__pycache__/*.nb[ic]"):
        with suppress(FileNotFoundError):
            if kernels.stat().st_mtime < changed:
                kernels.unlink()
