"""Where a Dask graph runs: threads of this process, a local cluster, or a running cluster."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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

Compute = Callable[[Sequence[Any], Callable[[], None]], list[Any]]
"""(delayed tasks, called after each task) -> their results in order."""


@contextmanager
def open_scheduler(scheduler: str, memory: int) -> Iterator[Compute]:
    """A function that computes delayed tasks where `scheduler` says.

    scheduler: "" (threads of this process), "processes:N" (a local cluster of N single-threaded
        workers that share `memory` bytes), or the address of a running Dask cluster.
    Raises: InputError for an address that does not answer or a malformed value.
    """
    if not scheduler:
        yield _compute_in_threads
        return
    with _connect(scheduler, memory) as client:
        yield lambda tasks, done: _compute_on_cluster(client, tasks, done)


def worker_count(scheduler: str) -> int:
    """Tasks that run at once in this machine's memory, for the projection of memory."""
    kind, _, number = scheduler.partition(":")
    return int(number) if kind == "processes" and number.isdigit() else os.cpu_count() or 1


@contextmanager
def _connect(scheduler: str, memory: int) -> "Iterator[Client]":
    from distributed import Client, LocalCluster  # only where a cluster is asked for

    if not scheduler.startswith("processes:"):
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, ValueError) as error:  # TimeoutError is an OSError
            raise InputError(
                f"no Dask scheduler answers at {scheduler}: start it, or leave SCHEDULER empty"
            ) from error
        with client:
            yield client
        return
    workers = worker_count(scheduler)
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT}),
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=memory // workers,
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


def _compute_on_cluster(
    client: "Client", tasks: Sequence[Any], done: Callable[[], None]
) -> list[Any]:
    from distributed import as_completed

    futures = client.compute(list(tasks))
    for future in as_completed(futures):
        future.result()  # raises here what the task raised there
        done()
    return list(client.gather(futures))
