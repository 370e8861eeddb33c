"""Passes on the workers of a Dask cluster.

A worker reads its shards of the store itself, and gets the centroids of each pass from the
scheduler or from another worker. The sums of its shards stay there until they are added up; this
process receives those of all rows alone. What a lost worker held Dask computes again elsewhere.
"""

import time
import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.engines import EngineSpec
from pipeline.execution.blocks import BlocksOnWorkers
from pipeline.execution.gather import StoreOnWorkers
from pipeline.execution.scheduler import Scheduler, same
from pipeline.execution.shards import (
    ClusterPass,
    Parts,
    WorkersTask,
    add_up,
    fold_levels,
    lease_state,
    shard_done,
    shard_sizes,
    shards_of,
    sum_shard,
)
from pipeline.rows.cluster_sums import ClusterSums, sum_types
from pipeline.rows.source import StoreSource
from pipeline.runtime.progress import Progress

if TYPE_CHECKING:
    from dask.highlevelgraph import HighLevelGraph
    from distributed import Future


class ClusterExecutor:
    """Passes over a patch store, or blocks of an array, on the workers of a cluster.

    Sums are the same whatever the number of workers, see `pipeline.execution.shards`. A worker
    that did not run a shard before takes longer for it. Arguments: see `WorkersTask`.
    """

    def __init__(
        self,
        source: StoreSource | BlocksOnWorkers,
        scheduler: Scheduler,
        engine: EngineSpec,
        *,
        remember: bool = True,
        largest: int = 1,
        device_memory: int | None = None,
        at_once: int = 1,
    ) -> None:
        self.source = source
        self._scheduler = scheduler
        rows = source.how if isinstance(source, BlocksOnWorkers) else StoreOnWorkers.of(source)
        given = engine, remember, largest, device_memory, at_once
        self._task = WorkersTask(uuid.uuid4().hex, rows, *given)
        self._passes = 0
        self._successors: np.ndarray | None = None  # for the next pass
        self._held: dict[int, str] = {}  # shard -> worker that remembers its rows
        self._leases: dict[str, Future] = {}  # of the state on each worker, by its address

    def run_pass(
        self, centroids: np.ndarray, progress: Progress, rows: int | None = None
    ) -> tuple[ClusterSums, float]:
        started = time.perf_counter()
        n_rows = self.source.n_rows if rows is None else min(rows, self.source.n_rows)
        successors, self._successors = self._successors, None
        self._passes += 1
        told = ClusterPass(self._task, self._passes, centroids, successors, n_rows)
        sums = ClusterSums.zeros(centroids, self.source.dtype)
        sums += ClusterSums(*self._sums(told, progress), sums.origin)
        return sums, time.perf_counter() - started

    def relabel(self, successors: np.ndarray) -> None:
        self._successors = successors

    def close(self) -> None:
        self._leases.clear()  # Dask lets go of what nobody holds

    def _sums(self, told: ClusterPass, progress: Progress) -> Parts:
        """Those of all rows of a pass."""
        _ = self._scheduler.client  # which is begun with the first pass
        workers = self._scheduler.workers
        self._leases = {one: self._leases[one] for one in workers if one in self._leases}
        for worker in workers:
            self._lease(worker)
        if isinstance(self.source, BlocksOnWorkers):  # those that lie nowhere yet are for Dask
            shards = shards_of(self.source, told.rows)
            homes = [self._held.get(shard, "") for shard in range(shards)]
            homes = [home if home in workers else "" for home in homes]
            graph, keys = pass_graph(told, homes, self.source.tasks(shards))
        else:
            sizes = shard_sizes(self.source, told.rows)
            graph, keys = pass_graph(told, assign_shards(sizes, workers, self._held))
        *counts, total = self._scheduler.started(graph, keys)
        numbers = {future.key: shard for shard, future in enumerate(counts)}
        parts: Parts | None = None
        for future, result in self._scheduler.completed([*counts, total]):
            if future.key == total.key:
                parts = result
            else:
                n_rows, worker = result
                self._held[numbers[future.key]] = worker
                self._lease(worker)
                progress.advance(n_rows)
            future.release()
        assert parts is not None  # or an error was raised
        return parts

    def _lease(self, worker: str) -> None:
        """The state of this fit stays on a worker as long as this process wants it."""
        if worker not in self._leases:
            self._leases[worker] = self._scheduler.kept(lease_state, self._task.name, worker)


def pass_graph(
    told: ClusterPass, homes: Sequence[str], blocks: Sequence[tuple[Any, ...]] = ()
) -> "tuple[HighLevelGraph, list[Any]]":
    """Dask's tasks of a pass.

    homes: the worker that each shard is offered to; "": any. blocks: what `sum_shard` takes of
    each; none: they are of a store.
    Returns: the graph, and the keys of what comes back: of each shard, see `shard_done`, and last
        the sums of all of them.
    """
    from dask.highlevelgraph import HighLevelGraph, MaterializedLayer

    mark = f"{told.task.name}-{told.number}"
    begin = f"same-{mark}"
    layers: dict[str, Any] = {begin: MaterializedLayer({begin: (same, told)})}
    needs: dict[str, set[str]] = {begin: set()}
    for home in set(homes):
        mine = [shard for shard, one in enumerate(homes) if one == home]
        tasks = {
            (f"sum_shard-{mark}", shard): (
                sum_shard,
                begin,
                shard,
                *(blocks[shard] if blocks else ()),
            )
            for shard in mine
        }
        offered = {"workers": [home], "allow_other_workers": True} if home else None
        layers[f"sum_shard-{mark}-{home}"] = MaterializedLayer(tasks, offered)
        needs[f"sum_shard-{mark}-{home}"] = {begin}
    summed, sums = f"sum_shard-{mark}", set(layers) - {begin}
    counts = {(f"shard_done-{mark}", shard): shard for shard in range(len(homes))}
    # At once: Dask would leave them to the end, and all sums would wait for them.
    layers[f"shard_done-{mark}"] = MaterializedLayer(
        {key: (shard_done, (summed, shard)) for key, shard in counts.items()}, {"priority": 1}
    )
    together: dict[str, list[Any]] = {}
    exact = sum_types(told.task.engine.dtype)[1].kind == "i"  # in any order: each worker its own
    for shard, home in enumerate(homes):
        together.setdefault(home if exact else "", []).append((summed, shard))
    added: dict[Any, Any] = {}
    parts = [_fold(f"add_up-{mark}-{n}", one, added) for n, one in enumerate(together.values())]
    total = parts[0] if len(parts) == 1 else _fold(f"add_up-{mark}-all", parts, added)
    layers[f"add_up-{mark}"] = MaterializedLayer(added)
    needs |= dict.fromkeys([f"shard_done-{mark}", f"add_up-{mark}"], sums)
    return HighLevelGraph(layers, needs), [*counts, total]


def _fold(name: str, keys: list[Any], added: dict[Any, Any]) -> Any:
    """Tasks that add up the sums of some keys, by a tree; the key of the sum of all."""
    for level, groups in enumerate(fold_levels(len(keys))):
        tasks = {
            (f"{name}-{level}", place): (add_up, [keys[one] for one in group])
            for place, group in enumerate(groups)
        }
        added |= tasks
        keys = list(tasks)
    return keys[0]


def assign_shards(sizes: Sequence[int], workers: Sequence[str], held: dict[int, str]) -> list[str]:
    """The worker that each shard is offered to: the one that remembers it, in even shares.

    Workers that have less than half their share get the rest from those with more than theirs.
    Neighbours, whose sums are added first, go to one worker, unless that makes shares uneven.
    sizes: chunks of each shard. held: the worker that remembers a shard; of others, too.
    """
    if not workers:  # yet
        return [""] * len(sizes)
    share, load = sum(sizes) / len(workers), dict.fromkeys(workers, 0)
    homes = {shard: held[shard] for shard in range(len(sizes)) if held.get(shard) in load}
    for shard, home in homes.items():
        load[home] += sizes[shard]
    needy = [one for one in workers if 2 * load[one] < share]
    wanted = sum(share - load[one] for one in needy) - (sum(sizes) - sum(load.values()))
    for shard in sorted(homes, reverse=True):
        if wanted >= sizes[shard] and load[homes[shard]] > share:
            load[homes.pop(shard)] -= sizes[shard]
            wanted -= sizes[shard]
    rest = [shard for shard in range(len(sizes)) if shard not in homes]
    for one in needy + [one for one in workers if one not in needy]:
        while rest and load[one] + sizes[rest[0]] <= share:
            load[one] += sizes[rest[0]]
            homes[rest.pop(0)] = one
    for shard in rest:
        homes[shard] = min(workers, key=load.__getitem__)
        load[homes[shard]] += sizes[shard]
    return [homes[shard] for shard in range(len(sizes))]
