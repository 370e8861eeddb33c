"""What a command and all processes that it starts take of the memory, as the kernel counts it."""

import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL = 0.05  # seconds between looks at the tree


@dataclass
class Ran:
    """A finished command. peak: bytes, of all its processes' largest resident sizes together."""

    code: int
    out: str
    err: str
    peak: int


def run_measured(arguments: list[str], **options: object) -> Ran:
    """Run a Python command in a fresh process and measure its tree.

    Each process counts with the largest resident size that the kernel noted for it, as long as it
    lives; so peaks between two looks are not missed, and pages that are shared count twice.
    """
    usual = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=usual,  # a user's, not that of `make test`
        **options,  # type: ignore[call-overload]
    )
    peak, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(INTERVAL):
            peak[0] = max(peak[0], _tree_peak(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, err = process.communicate()
    finally:
        over.set()
        watcher.join()
    return Ran(process.returncode, out, err, peak[0])


def _tree_peak(pid: int) -> int:
    try:
        parent = psutil.Process(pid)
        tree = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    return sum(high_water(process.pid) for process in tree)


def high_water(pid: int) -> int:
    """Its largest resident size so far, in bytes; 0 where it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # gone meanwhile
        return 0
    lines = [line.split() for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0][1]) * 1024 if lines else 0  # none: a zombie
