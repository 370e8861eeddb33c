"""Looks after a cluster while it works: who is lost, who no longer answers, whether any is left.

By itself Dask says nothing of workers that are lost, waits for ever where there are none, and for
300 s for one that is stopped.
"""

import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from math import inf
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from pipeline.execution.preflight import refusal
from pipeline.execution.probes import ByValue, give_up
from storage.errors import WorkerError

if TYPE_CHECKING:
    from distributed import Client

LOOK_SECONDS = 0.5  # between looks at the cluster
SILENT_SECONDS = 60.0  # without a sign of life, and a worker's tasks run elsewhere
WORKERLESS_SECONDS = 60.0  # that a run waits for workers
_YOUNG_SECONDS = 10.0  # in which a worker that comes and goes had no time to be examined
_AWAKE_SECONDS = 5.0  # in which who slept has looked again
_SECONDS_OF_WORKER = 0.005  # of many there is much to hear: looks are rarer
_LATE_SECONDS = 30.0  # between looks that say that we slept ourselves: then no silence counts
_NEW = "; it had just come: most often patchdict, or its version, is missing there, see its log"
GOES_ON = "and run the same command again, it goes on"


def scheduler_lost(address: str) -> WorkerError:
    """The error that says so."""
    return WorkerError(f"the scheduler of {address} no longer answers: start it, {GOES_ON}")


class Watch(AbstractContextManager["Watch"]):
    """A thread that looks at the workers of a client's cluster.

    Args:
        client: of the cluster, connected.
        address: of the scheduler, as users know it.
        note: is told what is worth a line.
        unfit: is called with addresses of workers that came later; returns refusals.

    Attributes:
        workers: threads by address, as last seen.
    """

    def __init__(
        self,
        client: "Client",
        address: str,
        note: Callable[[str], None],
        unfit: Callable[[Collection[str]], list[str]],
    ) -> None:
        self._client, self._address, self._note, self._unfit = client, address, note, unfit
        self.workers: dict[str, int] = {}
        self._known: set[str] | None = None  # workers that need not be examined; None: not begun
        self._refused: list[str] = []
        self._fit: set[str] = set()  # those that were examined, and seen after that
        self._given_up: set[str] = set()
        self._came: dict[str, float] = {}  # late workers, and when, by the scheduler
        self._short_lived: SimpleQueue[str] = SimpleQueue()
        self._gone: set[str] = set()  # workers that were named so, and did not come again
        self._workerless: float | None = None  # since when
        self._looked = monotonic()
        self._signs: dict[str, tuple[float, float]] = {}  # of life: the last, and when it was new
        self._deaf: float | None = None  # since when nothing was heard of the scheduler
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> "Watch":
        self._client.subscribe_topic("all", self.hear)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=2)  # a scheduler that is gone is waited for elsewhere

    def wait_for_workers(self) -> None:
        """Returns when there are workers, whose examination is the caller's; raises as `check`."""
        while not self.workers:
            self.check()
            self._over.wait(LOOK_SECONDS / 5)
        self._known = set(self.workers)

    def check(self) -> None:
        """Raises WorkerError where nothing more can come of the cluster."""
        now = monotonic()
        if self._client.status != "running":
            raise scheduler_lost(self._address)
        if now - self._looked <= SILENT_SECONDS:
            self._deaf = None
        elif self._deaf is None:
            self._deaf = now
        elif now - self._deaf > _AWAKE_SECONDS:  # else we slept, and have not looked again yet
            raise scheduler_lost(self._address)
        if self._refused:
            raise refusal(self._refused)
        if self._workerless is not None and now - self._workerless > WORKERLESS_SECONDS:
            raise WorkerError(
                f"no worker is at {self._address}, and none came within {WORKERLESS_SECONDS:.0f} s:"
                f" start some, {GOES_ON}"
            )

    def examine_new(self) -> None:
        """Workers that came while tasks run: what makes them unfit ends the run, before it spoils.

        Who is at fault is told by `check`.
        """
        if self._known is not None and (new := self.workers.keys() - self._known):
            self._known |= new
            self._refused += self._unfit(new)

    def hear(self, event: tuple[float, Any]) -> None:
        """What the scheduler tells at once, of workers that come and go between two looks, too.

        One without our package, or with another version, exits with its first task.
        """
        when, told = event
        action = told.get("action") if isinstance(told, dict) else None
        if action == "add-worker":
            self._came[told["worker"]] = when
            self._gone.discard(told["worker"])
        elif action == "remove-worker" and not told.get("expected"):
            lived = when - self._came.pop(told["worker"], -inf)
            if lived < _YOUNG_SECONDS:
                self._short_lived.put(told["worker"])

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._look()
            except Exception:  # the scheduler is gone, or the client is: `check` sees that
                if self._client.status == "closed":
                    return
            self._over.wait(max(LOOK_SECONDS, len(self.workers) * _SECONDS_OF_WORKER))

    def _look(self) -> None:
        scheduler: Any = self._client.scheduler
        found = self._client.sync(scheduler.identity, callback_timeout=SILENT_SECONDS)
        now = monotonic()
        if now - self._looked > _LATE_SECONDS:
            self._signs.clear()
        self._looked = now
        seen: dict[str, int] = {}
        for address, worker in found["workers"].items():
            if self._signs.get(address, (None,))[0] != worker["last_seen"]:
                self._signs[address] = worker["last_seen"], now
            if now - self._signs[address][1] > SILENT_SECONDS:
                self._give_up(address)
            else:
                seen[address] = worker["nthreads"]
        before, self.workers = self.workers, seen
        gone = dict.fromkeys(before.keys() - seen.keys(), "")
        while not self._short_lived.empty():
            gone[self._short_lived.get()] = _NEW
        for address, why in gone.items():
            why = "" if address in self._fit else why
            if address not in self._gone:  # the scheduler may tell of it after a look, too
                self._note(f"worker {address} is gone: its tasks run elsewhere{why}")
        self._gone |= gone.keys()
        self._fit |= (self._known or set()) & seen.keys()
        if seen:
            self._workerless = None
            self.examine_new()
        elif self._workerless is None:
            self._workerless = now
            self._note(
                f"no worker is at {self._address}: waiting up to {WORKERLESS_SECONDS:.0f} s for one"
            )

    def _give_up(self, address: str) -> None:
        if address not in self._given_up:
            self._given_up.add(address)
            self._gone.add(address)
            silent = f"has not answered for {SILENT_SECONDS:.0f} s"
            self._note(f"worker {address} {silent}: its tasks run elsewhere")
        self._client.run_on_scheduler(ByValue(give_up), address)
