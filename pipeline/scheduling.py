"""Where work runs: threads of this process, a local cluster, or a running Dask cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

import dask
from dask.base import compute as dask_compute
from dask.callbacks import Callback

from storage.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10
# The nanny's defaults unmap every chunk buffer after use, which halves the reading speed
# (distributed issue 3898).
_WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 28),
    "NUMBA_NUM_THREADS": "1",
}


class Scheduler(AbstractContextManager["Scheduler"]):
    """Runs tasks where it was told to; a cluster is started when it is first needed.

    address: "" (threads of this process), "processes:N" (a local cluster of N single-threaded
        workers that share `memory` bytes), or the address of a running Dask cluster.
    """

    def __init__(self, address: str = "", memory: int = 1 << 30) -> None:
        self.address = address
        self._memory = memory
        self._stack = ExitStack()

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def remote(self) -> bool:
        """Whether tasks run in other processes."""
        return bool(self.address)

    @property
    def workers(self) -> int:
        """Tasks that run at once in this machine's memory."""
        kind, _, number = self.address.partition(":")
        return int(number) if kind == "processes" else os.cpu_count() or 1

    @property
    def processes(self) -> int:
        """Processes on this machine, this one included."""
        return 1 + self.workers if self.address.startswith("processes:") else 1

    @cached_property
    def client(self) -> "Client":
        """Connection to the cluster.

        Raises: InputError for an address that does not answer.
        """
        return self._stack.enter_context(_connect(self.address, self.workers, self._memory))

    def compute(self, tasks: Sequence[Any], done: Callable[[], None]) -> list[Any]:
        """Results of delayed tasks, in order; `done` is called after each of them."""
        if not self.remote:
            return _compute_in_threads(tasks, done)
        from distributed import as_completed

        futures = self.client.compute(list(tasks))
        for future in as_completed(futures):
            future.result()  # raises here what the task raised there
            done()
        return list(self.client.gather(futures))


@contextmanager
def _connect(address: str, workers: int, memory: int) -> "Iterator[Client]":
    from distributed import Client, LocalCluster  # only where a cluster is asked for

    if not address.startswith("processes:"):
        try:
            client = Client(address, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise InputError(
                f"no Dask scheduler answers at {address}: start it, or leave SCHEDULER empty"
            ) from error
        with client:
            yield client
        return
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory // (workers + 1),
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _compute_in_threads(tasks: Sequence[Any], done: Callable[[], None]) -> list[Any]:
    # Aggregation nodes of dask.compute report here as well; tasks are told by their name.
    def after(key: Any, *_: Any) -> None:
        if key in keys:
            done()

    keys = {task.key for task in tasks}
    with Callback(posttask=after):
        return list(dask_compute(*tasks, scheduler="threads"))
