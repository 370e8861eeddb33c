"""The memory cap: a step's need is projected before it runs, and refused where it does not fit.

The projection is the process as it stands (its imports) plus what the step allocates; the number
of rows does not appear in it.
"""

import sys

import psutil
from pydantic import ByteSize

from storage.errors import MemoryBudgetError

SLACK_BYTES = 64 << 20  # allocator, thread stacks, code that loads on first use
_ROUND = 64 << 20


def peak_resident() -> int:
    """Largest resident size of this process so far, in bytes."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # Unix alone has it

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident() -> int:
    """Resident size of this process now, in bytes."""
    return int(psutil.Process().memory_info().rss)


def check_budget(step: str, needed: int, cap: int) -> None:
    """Refuse a step that would pass the cap.

    needed: bytes that the step allocates beyond what is resident now. cap: of the process tree.
    Raises: MemoryBudgetError with both numbers and the smallest cap that would do.
    """
    projected = resident() + needed + SLACK_BYTES
    if projected > cap:
        enough = -(-projected // _ROUND) * _ROUND
        raise MemoryBudgetError(
            f"{step} needs {_text(projected)} of memory, more than the cap of {_text(cap)}:"
            f" raise it (MEMORY={enough >> 20}MiB), or ask for less"
        )


def _text(size: int) -> str:
    return ByteSize(size).human_readable(separator=" ")
