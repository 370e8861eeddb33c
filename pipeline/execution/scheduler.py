"""Where work runs: threads of this process, a local cluster, or a running Dask cluster."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import pipeline.runtime.memory
from pipeline.config import USUAL_MEMORY
from pipeline.execution import watch
from pipeline.execution.connection import connected, described
from pipeline.execution.preflight import Requirements, examine, refusal, token
from pipeline.execution.watch import GOES_ON, Watch, scheduler_lost
from pipeline.runtime.memory import SLACK_BYTES
from pipeline.runtime.progress import Progress, SilentProgress
from storage.errors import WorkerError
from storage.places.place import Place

if TYPE_CHECKING:
    from distributed import Client, Future

CUTTER_BYTES = 160 << 20  # of a worker with the imports of an extraction
WORKER_BYTES = 200 << 20  # of one with those of a fit, numba included: 170 MiB were measured
RESUBMISSIONS = 3  # of a task whose workers were lost
_AT_ANY_SIZE = {"distributed.admin.large-graph-warning-threshold": "1TB"}
_SENT_COPIES = 3  # of what is sent: pickled, in the scheduler, on its way
T = TypeVar("T")


class Scheduler(AbstractContextManager["Scheduler"]):
    """Runs tasks where it was told to; a cluster is started when it is first needed.

    Args:
        address: "" or None (threads of this process), "processes:N" (a local cluster of N workers
            of one thread each), or the address of a running Dask cluster.
        memory: cap in bytes on the resident memory of this machine's processes together.
        progress: is told of workers that come and go.
    """

    def __init__(
        self,
        address: str | None = "",
        memory: int = USUAL_MEMORY,
        progress: Progress | None = None,
    ) -> None:
        self.address = address or ""
        self._memory, self._progress = memory, progress or SilentProgress()
        self._threads = self._task_bytes = self._shared_bytes = self._sent_bytes = 0
        self._asked: list[Requirements] = []  # of workers, all that was passed
        self._stack = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def remote(self) -> bool:
        """Whether tasks run in other processes."""
        return bool(self.address)

    @property
    def local_workers(self) -> int:
        """Worker processes that this scheduler starts on this machine."""
        kind, _, number = self.address.partition(":")
        return int(number) if kind == "processes" else 0

    def plan(self, task_bytes: int, shared_bytes: int = 0, sent_bytes: int = 0) -> None:
        """Take note of what one task allocates, and use as many threads as the cap has room for.

        shared_bytes: what each process allocates beside its tasks, this one already. sent_bytes:
        of them, what is sent to workers.
        """
        from dask.system import CPU_COUNT  # where there is work alone, like all of Dask here

        room = self._memory - pipeline.runtime.memory.resident() - SLACK_BYTES
        self._threads = min(max(1, room // max(1, task_bytes)), CPU_COUNT)
        self._task_bytes, self._sent_bytes = task_bytes, sent_bytes
        self._shared_bytes = CUTTER_BYTES + shared_bytes

    @property
    def at_once(self) -> int:
        """Tasks that are planned to run at the same time on this machine."""
        return max(1, self.local_workers if self.remote else self._threads)

    @property
    def needed(self) -> int:
        """Bytes that the planned tasks allocate on this machine beyond what is resident now."""
        if self.remote:
            each = self._shared_bytes + self._task_bytes
            return self.local_workers * each + _SENT_COPIES * self._sent_bytes
        return self._threads * self._task_bytes

    @property
    def client(self) -> "Client":
        """Connection to the cluster, whose workers were found to be fit for work of ours.

        Raises: InputError for an address that does not answer; WorkerError for a cluster that is
            lost, has no workers, or such as `preflight` refuses.
        """
        if not self._asked:
            with self._told():
                self._watch.wait_for_workers()
                self._progress.note(described(self._client, self.address, self._watch.workers))
                self._examine(Requirements())
        self._watch.check()
        return self._client

    @cached_property
    def _client(self) -> "Client":
        return self._stack.enter_context(connected(self.address, self.local_workers))

    @cached_property
    def _watch(self) -> Watch:
        found = Watch(self._client, self.address, self._progress.note, self._unfit)
        return self._stack.enter_context(found)

    @property
    def workers(self) -> list[str]:
        """Addresses of the cluster's workers, as last seen."""
        return list(self._watch.workers)

    def preflight(
        self,
        asked: Requirements | None = None,
        *,
        folder: Place | None = None,
        paths: Sequence[str] = (),
    ) -> None:
        """Examine scheduler and workers before they get tasks; those that come later, as they come.

        Args:
            asked: of each worker; None: what was planned.
            folder: that all must see, the same as this process sees; none behind a URL.
            paths: of other files and folders that they must see.

        Raises: WorkerError that names those that are unfit, and why.
        """
        if asked is None:
            memory, task = self._shared_bytes, self._task_bytes
            asked = Requirements(memory=memory, memory_of_thread=task, paths=tuple(paths))
        _ = self.client
        with self._told():
            if not isinstance(folder, Path):
                self._examine(asked)
                return
            with token(folder) as seen:
                self._examine(asked, seen)

    def _examine(self, asked: Requirements, *seen: str) -> None:
        if asked in self._asked:
            return
        if lines := examine(self._client, replace(asked, paths=(*asked.paths, *seen))):
            raise refusal(lines)
        self._asked.append(asked)

    def _unfit(self, workers: Collection[str]) -> list[str]:
        """Refusals of workers that came late."""
        found = (examine(self._client, asked, workers) for asked in self._asked)
        return next((lines for lines in found if lines), [])

    def copied(self, value: T) -> "Future[T]":
        """A value on the workers, for tasks; unlike what is scattered, it outlives its worker."""
        with self._sending():
            return self.client.submit(same, value, pure=False)

    def kept(self, make: Callable[[str], T], name: str, worker: str) -> "Future[T]":
        """Something that one worker makes and keeps, for as long as this process wants it."""
        with self._sending():
            return self.client.submit(make, name, workers=worker, pure=False)

    def started(self, graph: Any, keys: Sequence[Any]) -> "list[Future]":
        """Futures of some keys of a graph of tasks, which Dask begins to run."""
        with self._sending():
            return list(self.client.get(graph, keys, sync=False))

    def compute(self, tasks: Sequence[Any], done: Callable[[], None]) -> list[Any]:
        """Results of delayed tasks, in order; `done` is called after each of them.

        Raises: WorkerError when the cluster is lost.
        """
        if not self.remote:
            return _compute_in_threads(tasks, done, self._threads or None)
        with self._told():
            futures = self.client.compute(list(tasks))
        results = {}
        for future, result in self.completed(futures):
            results[future.key] = result
            done()
        return [results[future.key] for future in futures]

    def completed(self, futures: Collection["Future"]) -> "Iterator[tuple[Future, Any]]":
        """Futures with their results, as they come.

        A task whose worker is lost, or does not answer, is run by another one; after
        RESUBMISSIONS of them it is given up.

        Raises: what a task raised, or WorkerError.
        """
        from distributed import KilledWorker  # only where a cluster is asked for

        ready: SimpleQueue[Future] = SimpleQueue()
        for future in futures:
            future.add_done_callback(ready.put)
        lost, left = Counter[Any](), len(futures)
        while left:
            future = self._next(ready)
            with self._told():
                try:
                    result = self._result(future)
                except KilledWorker as error:
                    lost[future.key] += error.allowed_failures + 1  # Dask's own, of which it tells
                    if lost[future.key] > RESUBMISSIONS:
                        raise
                    future.retry()
                    future.add_done_callback(ready.put)
                    continue
                except ImportError:  # on a worker that came late, and is not examined yet?
                    self._watch.examine_new()
                    self._watch.check()
                    raise
            left -= 1
            yield future, result

    def _next(self, ready: "SimpleQueue[Future]") -> "Future":
        while True:
            try:
                return ready.get(timeout=watch.LOOK_SECONDS)
            except Empty:
                self._watch.check()

    def _result(self, future: "Future") -> Any:
        while True:
            try:
                return future.result(timeout=watch.SILENT_SECONDS)
            except TimeoutError:
                if future.status == "error":  # the task's own
                    raise
                self._watch.check()

    @contextmanager
    def _sending(self) -> Iterator[None]:
        """What is sent may be large: it is sent once."""
        import dask  # only where a cluster is asked for

        with self._told(), dask.config.set(_AT_ANY_SIZE):
            yield

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What Dask raises of a cluster becomes one line that says what is missing."""
        from distributed import KilledWorker
        from distributed.client import ClosedClientError
        from distributed.comm.core import CommClosedError

        try:
            yield
        except KilledWorker as error:
            raise WorkerError(
                f"worker {error.last_worker.address} of {self.address} was lost under a task, as"
                f" {max(error.allowed_failures, RESUBMISSIONS)} were before it: see its log; if"
                f" memory ran out, give workers more, {GOES_ON}"
            ) from error
        except (OSError, ClosedClientError) as error:
            own = isinstance(error, OSError) and not isinstance(error, CommClosedError)
            if own and self._client.status == "running":
                raise  # of a task
            raise scheduler_lost(self.address) from error
        except CancelledError as error:
            reason = getattr(error, "reason", "unknown")
            if reason == "scheduler-connection-lost" or self._client.status != "running":
                raise scheduler_lost(self.address) from error
            raise WorkerError(
                f"the cluster at {self.address} lost what tasks need ({reason}): {GOES_ON[4:]}"
            ) from error


def same(value: T) -> T:
    """A task whose result workers hand on to each other."""
    return value


def _compute_in_threads(
    tasks: Sequence[Any], done: Callable[[], None], threads: int | None
) -> list[Any]:
    from dask.base import compute as dask_compute
    from dask.callbacks import Callback

    # Aggregation nodes of dask.compute report here as well; tasks are told by their name.
    def after(key: Any, *_: Any) -> None:
        if key in keys:
            done()

    keys = {task.key for task in tasks}
    with Callback(posttask=after):
        return list(dask_compute(*tasks, scheduler="threads", num_workers=threads))
