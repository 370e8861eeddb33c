"""Functions that travel with their code to schedulers and workers, which may lack our package.

They use the standard library and Dask alone; what they import of ours, they import in vain or not.
"""

import asyncio
import pickle
import sys
from collections.abc import Callable
from functools import cache
from threading import Lock
from typing import Any

_registering = Lock()  # cloudpickle's list of modules is the process's


class ByValue:
    """A function of this module; where it is unpickled there is the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._pickled = _pickled(function)

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return pickle.loads, (self._pickled,)


@cache
def _pickled(function: Callable[..., Any]) -> bytes:
    import cloudpickle  # comes with Dask

    module = sys.modules[function.__module__]
    with _registering:
        cloudpickle.register_pickle_by_value(module)
        try:
            return bytes(cloudpickle.dumps(function))
        finally:
            cloudpickle.unregister_pickle_by_value(module)


async def give_up(address: str, dask_scheduler: Any) -> None:
    """Take a worker that does not answer from the scheduler, and ask its nanny for another one.

    Its tasks go to others at once. If it wakes up again it is told to close.
    """
    from contextlib import suppress

    worker = dask_scheduler.workers.get(address)
    if worker is None:
        return
    nanny = worker.nanny
    await dask_scheduler.remove_worker(address=address, stimulus_id="patchdict-silent-worker")
    if nanny:

        async def killed() -> None:
            with suppress(OSError, asyncio.TimeoutError):  # the whole machine may be gone
                await asyncio.wait_for(dask_scheduler.rpc(nanny).kill(), 30)

        # kept by the scheduler, or it would be collected while it waits
        dask_scheduler.patchdict_kill = asyncio.ensure_future(killed())


async def scheduler_faults(asked: dict[str, Any]) -> list[str]:
    """Why a scheduler cannot do the work, in words that follow its name; empty: it can.

    asked: module, sources: of our package.
    """
    # In a thread: what takes long would keep signs of life from being given.
    return await asyncio.to_thread(_faults_of_package, asked)


async def worker_faults(asked: dict[str, Any], dask_worker: Any) -> list[str]:
    """The same of a worker. asked: beside those the fields of `Requirements`."""
    return await asyncio.to_thread(_faults, asked, dask_worker)


def _faults_of_package(asked: dict[str, Any]) -> list[str]:
    import importlib.util

    try:
        found = importlib.util.find_spec(asked["module"])
    except ImportError:
        found = None
    if found is None or not found.origin:
        return ["does not have patchdict: install the same version there"]
    if sources_sum(found.origin) != asked["sources"]:
        return ["has another version of patchdict: install the same one there"]
    return []


def _faults(asked: dict[str, Any], worker: Any) -> list[str]:
    import os

    if found := _faults_of_package(asked) or _too_little_memory(asked, worker):
        return found
    missing = [path for path in asked["paths"] if not os.path.exists(path)]
    if missing:
        return [f"does not see {missing[0]}: give all workers the same folders, under one name"]
    return _unusable(asked, worker)


def sources_sum(module_file: str) -> int:
    """Checksum of all code of ours, from the file of a module in pipeline/execution/."""
    import zlib
    from pathlib import Path

    root, found = Path(module_file).parents[2], 0
    for folder in ("storage", "pipeline", "analysis"):
        for file in sorted((root / folder).rglob("*.py")):
            found = zlib.crc32(file.relative_to(root).as_posix().encode(), found)
            found = zlib.crc32(file.read_bytes(), found)
    return found


def _too_little_memory(asked: dict[str, Any], worker: Any) -> list[str]:
    limit = worker.memory_manager.memory_limit
    share = worker.memory_manager.memory_pause_fraction or 1  # from which on it takes no tasks
    needed = asked["memory"] + worker.state.nthreads * asked["memory_of_thread"]
    if not limit or needed <= limit * share:
        return []
    enough = -(-int(needed / share) >> 20) + 1
    return [
        f"may take {limit >> 20} MiB of memory, and its tasks need {needed >> 20} MiB of the"
        f" {share:.0%} at which Dask pauses it: start it with --memory-limit {enough}MiB or more"
    ]


def storage_beside(module: str) -> str:
    """The name of our storage, from that of a module in pipeline/execution/: longer in the wheel.

    No name of ours stands here in full, as building a wheel changes those.
    """
    return ".".join([*module.split(".")[:-3], "storage"])


def _unusable(asked: dict[str, Any], worker: Any) -> list[str]:
    """Faults of what is opened by code of ours, which is there."""
    import importlib
    import shutil

    folder = asked["module"].rpartition(".")[0]
    if asked["store"]:
        patches = importlib.import_module(storage_beside(asked["module"]))
        try:
            seal = patches.open_patches(asked["store"]).seal
        except Exception as error:  # whatever it is, it is told
            return [f"cannot open {asked['store']} ({error}): give all workers the same folder"]
        if seal != asked["seal"]:
            return [f"has another store at {asked['store']}: give all workers the same folder"]
    if asked["device"] != "cpu":
        devices = importlib.import_module("..runtime.devices", folder)
        try:
            devices.resolve_device(asked["device"])
        except Exception as error:
            return [f"cannot compute: {error}"]
    free, scratch = shutil.disk_usage(worker.local_directory).free, asked["scratch"]
    if free < scratch:
        return [
            f"has {free >> 20} MiB free in {worker.local_directory}, and keeps up to"
            f" {-(-scratch >> 20)} MiB there: start it with another --local-directory"
        ]
    return []
