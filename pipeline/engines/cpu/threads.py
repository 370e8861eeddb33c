"""Threads that work side by side, each on its own stretch of items."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, pairwise
from typing import TypeVar

from pipeline.runtime.devices import thread_count

PIECES = 4  # pieces of work for each thread, as some take longer
T = TypeVar("T")


class ThreadPool:
    """Threads to which whole pieces of work are given.

    Those that meet at a barrier after every small operation lose most of their time as soon as
    another process wants a core.
    """

    def __init__(self) -> None:
        self.threads = thread_count()
        self._pool = ThreadPoolExecutor(self.threads, "assign")

    def stretches(self, items: int, each: int = PIECES) -> list[tuple[int, int]]:
        """[first, stop) of up to `each` pieces for every thread, in rounds of ever shorter ones.

        The last are what threads wait for each other.
        """
        weights = [weight for weight in range(each, 0, -1) for _ in range(self.threads)]
        stops = [-(-items * upto // sum(weights)) for upto in accumulate(weights)]
        return [(first, stop) for first, stop in pairwise([0, *stops]) if first < stop]

    def run(self, work: Callable[[int, int], T], stretches: list[tuple[int, int]]) -> list[T]:
        """Results of work(first, stop) for each stretch, in order."""
        return list(self.each(work, stretches))

    def each(self, work: Callable[[int, int], T], stretches: list[tuple[int, int]]) -> Iterator[T]:
        """The same, each as soon as it is there."""
        return self._pool.map(lambda stretch: work(*stretch), stretches)
