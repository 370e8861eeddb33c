"""Whether the processes of a cluster can do the work, asked before they get any of it."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipeline.execution import probes
from pipeline.execution.probes import ByValue
from storage.errors import WorkerError

if TYPE_CHECKING:
    from distributed import Client

_FOR_ALL = ("dask", "distributed", "numpy", "zarr")  # packages; the scheduler unpickles tasks, too
_FOR_WORKERS = (*_FOR_ALL, "numba")
_SHOWN = 3  # refusals that are told in full


@dataclass(frozen=True)
class Requirements:
    """What a worker must have.

    Attributes:
        packages: whose versions must be those of this process, beside those that all need.
        memory: bytes that a worker takes, beside its tasks.
        memory_of_thread: bytes that each thread's task takes.
        scratch: bytes of files in its local directory.
        store: path of a patch store; "": of none. seal: of that store.
        paths: of files and folders that must be there.
        device: that computes.
    """

    packages: tuple[str, ...] = ()
    memory: int = 0
    memory_of_thread: int = 0
    scratch: int = 0
    store: str = ""
    seal: str = ""
    paths: tuple[str, ...] = ()
    device: str = "cpu"


def examine(
    client: "Client", asked: Requirements, workers: Collection[str] | None = None
) -> list[str]:
    """Refusals of processes of a cluster, a line each; empty: all can do the work.

    workers: their addresses; None: all, and the scheduler.
    """
    versions: Any = client.get_versions(packages=[*_FOR_WORKERS, *asked.packages])
    here = versions["client"]["packages"]
    refused = {}
    if workers is None:
        told = _other_version(versions["scheduler"]["packages"], here, _FOR_ALL)
        refused["the scheduler"] = [told] if told else []
    for address, found in versions["workers"].items():
        if workers is None or address in workers:
            told = _other_version(found["packages"], here, (*_FOR_WORKERS, *asked.packages))
            refused[f"worker {address}"] = [told] if told else []
    if any(refused.values()):  # code by value is not for another Python
        return _lines(refused)
    module = probes.__name__
    sources = probes.sources_sum(str(sys.modules[module].__file__))
    facts: dict[str, Any] = asdict(asked) | {"module": module, "sources": sources}
    if workers is None:
        probe = ByValue(probes.scheduler_faults)
        refused["the scheduler"] = client.run_on_scheduler(probe, facts)
    asking = None if workers is None else list(workers)
    probe = ByValue(probes.worker_faults)
    answers = client.run(probe, facts, workers=asking, on_error="return")
    for address, answer in answers.items():
        if isinstance(answer, OSError):
            continue  # it is gone, or does not answer: that is not for the preflight to tell
        refused[f"worker {address}"] = (
            [f"cannot be examined: {answer!r}"] if isinstance(answer, BaseException) else answer
        )
    return _lines(refused)


def refusal(lines: Sequence[str]) -> WorkerError:
    """What `examine` found, as an error."""
    more = len(lines) - _SHOWN
    shown = [*lines[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
    return WorkerError("; ".join(shown))


@contextmanager
def token(folder: Path) -> Iterator[str]:
    """Path of a file in a folder, for a while: who sees it has the same folder."""
    path = folder / f".preflight-{uuid4().hex}"
    path.touch()
    try:
        yield str(path)
    finally:
        path.unlink(missing_ok=True)


def _lines(refused: dict[str, list[str]]) -> list[str]:
    return [f"{who} {told[0]}" for who, told in refused.items() if told]


def _other_version(found: dict[str, Any], here: dict[str, Any], packages: Sequence[str]) -> str:
    """That a package has another version than here, in words that follow a process's name."""
    python, ours = (".".join(one["python"].split(".")[:2]) for one in (found, here))
    if python != ours:
        return f"has Python {python}, where this process has {ours}: use one version for all"
    for name in packages:
        # builds for a CPU and for CUDA are of one version
        there, mine = (str(one[name]).partition("+")[0] for one in (found, here))
        if found[name] is None and here[name] is not None:
            return f"does not have {name}: install {name}=={mine} there"
        if there != mine:
            return f"has {name} {there}, where this process has {mine}: install the same there"
    return ""
