"""Arrays that are mapped from files: their pages count as resident memory until they are let go."""

import mmap
from typing import Any


def let_go(array: Any) -> None:
    """Give back the pages of a mapped array, which are read again when they are asked for.

    Those of mode "c" hold what was written to them and stay; other arrays are as they are.
    """
    mapping = getattr(array, "_mmap", None)
    if mapping is not None and array.mode != "c" and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)  # absent on Windows
