"""Clusters of real processes, as `dask scheduler` and `dask worker` start them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Client, LocalCluster

QUIET: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
# Dask as it is, without what editable installations add: without our package
WITHOUT_US = {"PYTHONPATH": str(Path(dask.__file__).parents[1])}


class Cluster(AbstractContextManager["Cluster"]):
    """A scheduler and workers, which are ended with it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        self.workers: list[subprocess.Popen[bytes]] = []
        self.start_scheduler()

    def start_scheduler(self) -> None:
        place = ["--host", self.address, "--dashboard-address", "127.0.0.1:0", "--no-show"]
        program = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        self.scheduler = subprocess.Popen([*program, *place], **QUIET)
        wait_until(self._answers, 60)

    def _answers(self) -> bool:
        with socket.socket() as asking:
            host, port = self.address.removeprefix("tcp://").split(":")
            return asking.connect_ex((host, int(port))) == 0

    def add_worker(
        self, *options: str, nanny: bool = False, ours: bool = True, **named: Any
    ) -> "subprocess.Popen[bytes]":
        """One more; ours: whether it has our package."""
        program = [sys.executable, *([] if ours else ["-S"]), "-m", "distributed.cli.dask_worker"]
        usual = [self.address, *([] if nanny else ["--no-nanny"]), "--nthreads", "1"]
        environment = os.environ | ({} if ours else WITHOUT_US)
        started = subprocess.Popen(
            [*program, *usual, *options],
            env=environment,
            cwd=named.pop("cwd", None),
            **QUIET,
        )
        self.workers.append(started)
        return started

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            with suppress(psutil.NoSuchProcess):
                for each in (psutil.Process(process.pid), *children(process.pid)):
                    with suppress(psutil.NoSuchProcess):
                        each.send_signal(signal.SIGKILL)
            process.wait()


@contextmanager
def two_workers_here(threads: int, **of_client: Any) -> Iterator[Client]:
    """A client of two workers, which are threads of this process, of some threads each."""
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=threads,
            processes=False,
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster, **of_client) as client,
    ):
        yield client


def children(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def wait_until(true: Any, seconds: float = 30) -> None:
    """Returns when a function returns what is true; fails after some time."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "in vain"
        time.sleep(0.05)


def slow_square(number: int, beside: Any = None, seconds: float = 0.1) -> int:
    """A task that takes some time, and needs what lies beside it."""
    time.sleep(seconds)
    return number**2 + (0 if beside is None else int(beside[0]))
