"""The memory cap: a step's need is projected before it runs, and refused where it does not fit.

The projection is the process as it stands (its imports) plus what the step allocates; the number
of rows does not appear in it.
"""

import ctypes
import sys

import psutil
from pydantic import ByteSize

from storage.errors import MemoryBudgetError

SLACK_BYTES = 64 << 20  # allocator, thread stacks, code that loads on first use
_ROUND = 8 << 20
_ARENA_MAX, _MMAP_THRESHOLD = -8, -3  # numbers of glibc's malloc.h
_LARGE = 1 << 20  # bytes of arrays that lie apart where memory is short
_C = None if sys.platform == "win32" else ctypes.CDLL(None)  # the C library of this process


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


def fits(needed: int, cap: int) -> bool:
    """Whether a step that allocates so many bytes stays within the cap."""
    spare_the_heap()
    return resident() + needed + SLACK_BYTES <= cap


def check_budget(step: str, needed: int, cap: int) -> int:
    """Refuse a step that would pass the cap.

    Args:
        step: what it is called in the message.
        needed: bytes that the step allocates beyond what is resident now.
        cap: of the process tree, in bytes.

    Returns:
        What the process tree takes at most, in bytes.

    Raises:
        MemoryBudgetError: with both numbers and the smallest cap that would do.
    """
    spare_the_heap()
    projected = resident() + needed + SLACK_BYTES
    if projected > cap:
        enough = (projected // _ROUND + 2) * _ROUND  # the next process may hold a little more
        more, less = _apart(projected, cap)
        raise MemoryBudgetError(
            f"{step} needs {more} of memory, more than the cap of {less}:"
            f" raise it (MEMORY={enough >> 20}MiB), or ask for less"
        )
    return projected


def device_refusal(step: str, needed: int, allowed: int, sharers: int = 1) -> MemoryBudgetError:
    """A step that needs more memory of a device than it is allowed to take.

    needed: bytes at least. allowed: bytes. sharers: processes among which the cap is divided.
    """
    enough = -(-needed * sharers >> 20)
    each = f" for each of {sharers} processes" if sharers > 1 else ""
    more, less = _apart(needed, allowed)
    return MemoryBudgetError(
        f"{step} needs {more} of device memory, more than the cap of"
        f" {less}{each}: raise it (DEVICE_MEMORY={enough}MiB), end other processes on"
        " the device, or ask for less"
    )


def in_words(size: int) -> str:
    """A size in bytes for people: 1.5 GiB."""
    return ByteSize(size).human_readable(separator=" ")


def spare_the_heap() -> None:
    """Return what is freed to the system, and let threads to come share one arena; glibc alone.

    By itself it gives each thread an arena, which keeps what its largest blocks took: 70 to 250 MiB
    that nobody uses, more in one run than in the next. Threads take over arenas of those that have
    ended, so that a command begins with this.
    """
    give_back()
    if _C is not None and hasattr(_C, "malloc_trim"):
        _C.mallopt(_ARENA_MAX, 1)


def _apart(more: int, less: int) -> tuple[str, str]:
    """Two sizes for people, in units that show which is the larger."""
    for words in (in_words, lambda size: f"{size / (1 << 20):,.0f} MiB"):
        if words(more) != words(less):
            return words(more), words(less)
    return f"{more:,} bytes", f"{less:,} bytes"


def keep_no_gaps() -> None:
    """From now on large arrays are mapped apart and go back to the system as they are freed.

    They leave no gaps in the heap that the next one does not fit in; each must be filled with
    zeros by the system, which takes some time. By itself glibc stops doing so after the first.
    """
    if _C is not None and hasattr(_C, "mallopt"):
        _C.mallopt(_MMAP_THRESHOLD, _LARGE)


def give_back() -> None:
    """Return what is freed to the system, so that the next step need not count it."""
    if _C is not None and hasattr(_C, "malloc_trim"):
        _C.malloc_trim(0)
