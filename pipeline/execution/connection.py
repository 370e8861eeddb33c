"""Connections to clusters: a running one at an address, or one of processes on this machine."""

import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import spawn
from typing import TYPE_CHECKING, Any

from storage.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10
CLUSTER_BYTES = 72 << 20  # of a process with a client and a scheduler of Dask: 61 MiB were measured
_NAMED = 4  # workers that a note names
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

# What Dask measures for dashboards, which nobody sees here, takes 4 % of a core of each process.
_OF_WORKERS = {
    "distributed.nanny.pre-spawn-environ": _WORKER_ENVIRONMENT,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.profile.enabled": False,
    # Who takes a shard from another worker, as fast as itself, knows nothing of its rows.
    "distributed.scheduler.work-stealing": False,
}


def starting_bytes() -> int:
    """What a cluster will take of this process, beside its workers, if there was none yet."""
    return 0 if "distributed" in sys.modules else CLUSTER_BYTES


def _client_of(address: str) -> "Client":
    """Asked in advance whether it answers: a client that fails to start hangs when it is deleted.

    Raises: InputError.
    """
    import asyncio

    from distributed import Client
    from distributed.comm.core import connect
    from distributed.security import Security
    from distributed.versions import VersionMismatchWarning

    async def answer() -> None:
        arguments = Security().get_connection_args("client")
        comm = await connect(address, timeout=CONNECT_SECONDS, **arguments)
        await comm.close()

    try:
        asyncio.run(answer())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # the preflight tells
            return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        # TimeoutError is an OSError; TypeError: a kind of address that is not set up here
        raise InputError(
            f"no Dask scheduler answers at {address}: start it, or leave SCHEDULER empty"
        ) from error


@contextmanager
def connected(address: str, workers: int) -> "Iterator[Client]":
    """A client of the cluster at an address; processes:N is started, with so many workers."""
    import dask
    from distributed import Client, LocalCluster  # only where a cluster is asked for

    if not address.startswith("processes:"):
        with _without_logs(), _client_of(address) as client:
            yield client
        return
    with (
        _without_logs(),
        dask.config.set(_OF_WORKERS),
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
def _without_logs() -> Iterator[None]:
    """What is lost is told in a line, see `watch`, and not by Dask with all that it was doing."""

    def nothing(_: logging.LogRecord) -> bool:
        return False  # of this context: others may end before it, or after

    names = [*logging.root.manager.loggerDict]
    kept = [logging.getLogger(one) for one in names if one.startswith(("distributed", "tornado"))]
    for logger in kept:
        logger.addFilter(nothing)
    try:
        yield
    finally:
        for logger in kept:
            logger.removeFilter(nothing)


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


def described(client: "Client", address: str, workers: dict[str, int]) -> str:
    """A cluster, its workers and its dashboard, in a line. workers: threads by address."""
    n = len(workers)
    many = f"{n} worker{'s' * (n != 1)}"
    if address.startswith("processes:"):
        return many
    names = [*workers][:_NAMED] + ["…"] * (n > _NAMED)
    services = client.scheduler_info().get("services", {})
    link = client.dashboard_link if "dashboard" in services else None
    return f"cluster {address}: {many} ({', '.join(names)}), {sum(workers.values())} threads" + (
        f"; dashboard {link}" if link else ""
    )
