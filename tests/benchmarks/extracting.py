"""Extraction against the study's nested loops."""

import statistics
import time
from pathlib import Path

from pipeline.extraction.extract import extract
from storage import PatchSpec, PatchStore
from storage.images.source import open_images
from tests.oracles import cut_by_loops

LOOP_IMAGES = 600  # of 60,000: the loops are measured on a part and scaled


def measure(data: Path, folder: Path, repeats: int) -> tuple[PatchStore, list[dict[str, str]]]:
    """Returns the last store, and a table of seconds."""
    times = []
    for repeat in range(repeats):
        started = time.perf_counter()
        store = store_of("mnist", data, PatchSpec(5, 5), folder / str(repeat))
        times.append(time.perf_counter() - started)
    images = open_images("mnist", "train", data).images
    started = time.perf_counter()
    cut_by_loops(images[:LOOP_IMAGES], 5, 5, 1, 0)
    loops = (time.perf_counter() - started) * len(images) / LOOP_IMAGES
    ours = statistics.median(times)
    return store, [
        {
            "way": "nested loops over patches, as in the study (scaled from 1 %)",
            "seconds": f"{loops:.0f}",
            "MB": f"{store.n_rows * store.dim / 1e6:.0f} in memory",
        },
        {
            "way": f"patchdict: {store.n_rows:,} rows, unpacking, counting, writing",
            "seconds": f"{ours:.1f}",
            "MB": f"{store.stored_bytes / 1e6:.1f} on disk",
        },
    ]


def store_of(dataset: str, data: Path, spec: PatchSpec, folder: Path) -> PatchStore:
    """Training patches of a data set."""
    return extract(dataset, patch=spec, out=folder, data=data)[0]
