"""Where work runs: threads of this process, a local cluster, or a running Dask cluster."""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any

import pipeline.runtime.memory
from pipeline.config import USUAL_MEMORY
from pipeline.runtime.memory import SLACK_BYTES
from storage.errors import InputError, WorkerError

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10
CUTTER_BYTES = 160 << 20  # of a worker with the imports of an extraction
WORKER_BYTES = 200 << 20  # of one with those of a fit, numba included: 142 MiB were measured
# The nanny's defaults unmap every chunk buffer after use, which halves the reading speed
# (distributed issue 3898).
_WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "MALLOC_ARENA_MAX": "1",  # or each thread keeps blocks of its own
    # What dask sets by itself is lost with its other defaults: one thread for each worker.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


class Scheduler(AbstractContextManager["Scheduler"]):
    """Runs tasks where it was told to; a cluster is started when it is first needed.

    address: "" or None (threads of this process), "processes:N" (a local cluster of N workers of
        one thread each), or the address of a running Dask cluster.
    memory: cap in bytes on the resident memory of this machine's processes together.
    """

    def __init__(self, address: str | None = "", memory: int = USUAL_MEMORY) -> None:
        self.address = address or ""
        self._memory = memory
        self._threads = self._task_bytes = self._worker_bytes = 0
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

    def plan(self, task_bytes: int, shared_bytes: int = 0) -> None:
        """Take note of what one task allocates, and use as many threads as the cap has room for.

        shared_bytes: what each process allocates beside its tasks, this one already.
        """
        from dask.system import CPU_COUNT  # where there is work alone, like all of Dask here

        room = self._memory - pipeline.runtime.memory.resident() - SLACK_BYTES
        self._threads = min(max(1, room // max(1, task_bytes)), CPU_COUNT)
        self._task_bytes = task_bytes
        self._worker_bytes = CUTTER_BYTES + shared_bytes + task_bytes

    @property
    def at_once(self) -> int:
        """Tasks that are planned to run at the same time on this machine."""
        return max(1, self.local_workers if self.remote else self._threads)

    @property
    def needed(self) -> int:
        """Bytes that the planned tasks allocate on this machine beyond what is resident now."""
        if self.remote:
            return self.local_workers * self._worker_bytes
        return self._threads * self._task_bytes

    @cached_property
    def client(self) -> "Client":
        """Connection to the cluster.

        Raises: InputError for an address that does not answer.
        """
        return self._stack.enter_context(_connect(self.address, self.local_workers))

    def compute(self, tasks: Sequence[Any], done: Callable[[], None]) -> list[Any]:
        """Results of delayed tasks, in order; `done` is called after each of them.

        Raises: WorkerError when workers die under their tasks.
        """
        if not self.remote:
            return _compute_in_threads(tasks, done, self._threads or None)
        futures = self.client.compute(list(tasks))
        for _ in self.completed(futures):
            done()
        return list(self.client.gather(futures))

    def completed(self, futures: Any) -> "Iterator[tuple[Future, Any]]":
        """Futures with their results, as they come; raises what a task raised, or WorkerError."""
        from distributed import KilledWorker, as_completed  # only where a cluster is asked for
        from distributed.comm.core import CommClosedError

        try:
            for future in as_completed(futures, loop=self.client.loop):
                yield future, future.result()
        except (CancelledError, CommClosedError) as error:
            raise WorkerError(
                f"the scheduler of {self.address} no longer answers: start it, and run the same"
                " command again, it goes on"
            ) from error
        except KilledWorker as error:
            raise WorkerError(
                f"workers of {self.address} died under their tasks: give them more memory, and run"
                " the same command again"
            ) from error


def _client_of(address: str) -> "Client":
    """Asked in advance whether it answers: a client that fails to start hangs when it is deleted.

    Raises: InputError.
    """
    import asyncio

    from distributed import Client
    from distributed.comm.core import connect
    from distributed.security import Security

    async def answer() -> None:
        arguments = Security().get_connection_args("client")
        comm = await connect(address, timeout=CONNECT_SECONDS, **arguments)
        await comm.close()

    try:
        asyncio.run(answer())
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        # TimeoutError is an OSError; TypeError: a kind of address that is not set up here
        raise InputError(
            f"no Dask scheduler answers at {address}: start it, or leave SCHEDULER empty"
        ) from error


@contextmanager
def _connect(address: str, workers: int) -> "Iterator[Client]":
    import dask
    from distributed import Client, LocalCluster  # only where a cluster is asked for

    if not address.startswith("processes:"):
        with _client_of(address) as client:
            yield client
        return
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT}),
        _environment_kept(),
        _SCRIPT_LEFT_OUT,
    ):
        with _environment_kept():
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,  # the projection holds the cap; paused workers would hang for ever
                # Any port: two clusters on one machine are no mistake.
                scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            )
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


class _ScriptLeftOut(AbstractContextManager[None]):
    """Workers that start in here, also in place of others, do not run the user's script again.

    They need nothing of it, and without `if __name__ == "__main__":` it would start workers too.
    Clusters may begin and end in any order: the first sets a hook, the last takes it away.
    """

    def __init__(self) -> None:
        self._lock, self._clusters = threading.Lock(), 0
        self._found = spawn.get_preparation_data

    def __enter__(self) -> None:
        with self._lock:
            if self._clusters == 0:
                self._found = spawn.get_preparation_data
                spawn.get_preparation_data = self._prepare
            self._clusters += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._clusters -= 1
            if self._clusters == 0:
                spawn.get_preparation_data = self._found

    def _prepare(self, name: str) -> dict[str, Any]:
        told = self._found(name)
        if name.startswith("Dask Worker"):
            told = {key: value for key, value in told.items() if not key.startswith("init_main")}
        return told


_SCRIPT_LEFT_OUT = _ScriptLeftOut()  # of all schedulers of this process


@contextmanager
def _environment_kept() -> Iterator[None]:
    """What distributed sets for its workers it sets here, where it would stay."""
    before = os.environ.copy()
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


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
