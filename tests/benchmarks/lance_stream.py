"""LanceStream, the streaming K-means of Lance, beside ours: each in a process of its own.

`python -m tests.benchmarks.lance_stream ROWS.lance K CENTROIDS.npy` trains and prints JSON.
"""

import json
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.process_trees import Ran, high_water, run_measured

if TYPE_CHECKING:  # imported lazily: what the child loads counts as the peer's memory
    from storage import PatchStore

ROOT = Path(__file__).parents[2]
MEMORY = "400MiB"  # asked for first; where it is refused, the least that would do
SAMPLED, AT_ONCE, CORESET = 256, 64, 16  # rows per centroid, as its authors measure it
INDEXING = 1200  # seconds in which an index must be built
COLUMN = "patch"


def measure(
    store: "PatchStore", data: Path, sizes: list[int], sse: Callable[[np.ndarray], float]
) -> list[dict[str, str]]:
    """Two rows for each K.

    store: all patches of MNIST or a sample of them. sse: of centroids, (k, d), on all rows of it.
    """
    from storage import open_dictionaries

    out = store.path.parents[1]
    rows = out / "rows.lance"
    write(store, rows)
    table = []
    for k in sizes:
        memory, peak, told = fit(store, data, k)
        tree = open_dictionaries(told["path"].rpartition("/")[0])
        ours = tree[Path(told["path"]).name].centroids.values.reshape(k, -1)
        table.append(line(k, f"patchdict fit, MEMORY={memory}", told, peak, sse(ours), "yes"))
        centroids = out / "centroids.npy"
        arguments = [str(rows), str(k), str(centroids)]
        told = told_by(run_measured(["-m", __name__, *arguments], cwd=ROOT))
        found = sse(np.load(centroids)) if told["indexed"] else None
        table.append(line(k, "LanceStream", told, told["peak"], found, "no"))
    return table


def fit(store: "PatchStore", data: Path, k: int, memory: str = MEMORY) -> tuple[str, int, dict]:
    """Our command, its defaults: cap, peak in bytes, what it told."""
    given = {"dataset": "mnist", "data": data, "out": store.path.parents[1], "k": k}
    given |= {"memory": memory} | ({"sample": store.spec.sample} if store.spec.sample else {})
    options = [f"--{name}={value}" for name, value in given.items()]
    ran = run_measured(["-m", "pipeline", "fit", *options, "--json"], cwd=ROOT)
    if more := re.search(r"MEMORY=(\w+)", ran.err) if ran.code == 2 else None:
        return fit(store, data, k, more[1])
    return memory, ran.peak, told_by(ran)


def line(
    k: int, way: str, told: dict, peak: int, sse: float | None, resumable: str
) -> dict[str, str]:
    """A row of the table; sse: None where no centroids were handed out."""
    return {
        "K": f"{k:,}",
        "way": way,
        "seconds": f"{told['seconds']:.1f}",
        "peak resident MiB": f"{peak / 2**20:.0f}",
        "SSE on all rows, float64": "no index" if sse is None else f"{sse:.6g}",
        "resumable": resumable,
    }


def told_by(ran: Ran) -> dict:
    """The JSON object that a process printed last."""
    if ran.code:
        sys.exit(ran.err.strip().splitlines()[-1])
    return json.loads(ran.out.strip().splitlines()[-1])


def write(store: "PatchStore", path: Path) -> None:
    """The rows as float32, which is what it clusters by distance."""
    import lance
    import pyarrow

    kind = pyarrow.list_(pyarrow.float32(), store.dim)

    def batches() -> Iterator["pyarrow.RecordBatch"]:
        for number in range(store.n_chunks):
            flat = pyarrow.array(store.read_chunk(number).astype(np.float32).ravel())
            column = pyarrow.FixedSizeListArray.from_arrays(flat, type=kind)
            yield pyarrow.RecordBatch.from_arrays([column], names=[COLUMN])

    schema = pyarrow.schema([(COLUMN, kind)])
    lance.write_dataset(batches(), str(path), schema=schema, mode="overwrite")


def train(rows: str, k: int, centroids: str) -> None:
    """Train, note seconds and peak as soon as that is over, and let the index be built for a
    while: its centroids are handed out with it alone.
    """
    import lance

    noted: dict[str, float] = {}

    def tell(indexed: bool) -> None:
        seconds = noted["complete"] - noted["start"]
        print(
            json.dumps({"seconds": seconds, "peak": noted["peak"], "indexed": indexed}), flush=True
        )

    def give_up() -> None:
        tell(indexed=False)
        os._exit(0)  # version 14.0.2 was seen to wait for itself for ever

    def watch(event: "lance.progress.IndexProgress") -> None:
        if event.stage == "train_ivf":
            noted[event.event] = time.perf_counter()
            noted["peak"] = high_water(os.getpid())
            if event.event == "complete":
                patience.start()

    patience = threading.Timer(INDEXING, give_up)

    made = lance.dataset(rows).create_index(
        COLUMN,
        "IVF_FLAT",
        name="index",
        replace=True,
        num_partitions=k,
        sample_rate=SAMPLED,
        streaming_sample_rate=AT_ONCE,
        streaming_coreset_rate=CORESET,
        progress_callback=watch,
    )
    found = made.get_ivf_model("index").centroids.to_numpy(zero_copy_only=False)
    np.save(centroids, np.stack(found))
    patience.cancel()
    tell(indexed=True)


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]), sys.argv[3])
