"""Threads that work side by side, each on its own stretch of items."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from pipeline.runtime.devices import thread_count

PIECES = 4  # pieces of work for each thread, as some take longer
T = TypeVar("T")


class Crew:
    """A pool of threads in which torch, too, keeps to the calling thread.

    Threads that meet at a barrier after every small operation lose most of their time as soon as
    another process wants a core; pieces that are whole pieces of work do not.
    """

    def __init__(self) -> None:
        self.threads = thread_count()
        one_thread = partial(torch.set_num_threads, 1)
        self.pool = ThreadPoolExecutor(self.threads, "assign", one_thread)

    def stretches(self, items: int, each: int = PIECES) -> list[tuple[int, int]]:
        """[first, stop) of up to `each` pieces for every thread."""
        length = max(1, -(-items // (self.threads * each)))
        return [(first, min(first + length, items)) for first in range(0, items, length)]

    def run(self, work: Callable[[int, int], T], stretches: list[tuple[int, int]]) -> list[T]:
        """Results of work(first, stop) for each stretch, in order."""
        return list(self.pool.map(lambda stretch: work(*stretch), stretches))
