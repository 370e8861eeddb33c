"""What the command line tells of an extraction, done or foreseen."""

import time
from typing import Any

from pipeline.config import PatchOptions
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.codec_trial import try_codecs
from pipeline.extraction.extract import open_split
from pipeline.extraction.tasks import cut_rows
from pipeline.runtime.memory import resident
from pipeline.runtime.progress import Progress, rounded
from storage.layout import is_there
from storage.patch_writer import stored_bytes


def extracted(options: PatchOptions, progress: Progress, split: str) -> dict[str, Any]:
    """Cut the patches, and what became of it: plain JSON."""
    started = time.perf_counter()
    with Scheduler(options.scheduler, options.memory, progress) as scheduler:
        work = open_split(options, split, scheduler, progress)
        store, reused, repaired = work.done_under(options.out)
    return {
        "store": str(store.path),
        "rows": store.n_rows,
        "dim": store.dim,
        "bytes": store.stored_bytes,
        "codec": store.codec,
        "seconds": time.perf_counter() - started,
        "reused": reused,
        "repaired": repaired,
    }


def forecast(options: PatchOptions, progress: Progress, split: str) -> dict[str, Any]:
    """The same before anything is written, with the memory that is needed, in bytes.

    Rows are counted; bytes and seconds are those of one chunk, times their number.
    """
    with Scheduler(options.scheduler, options.memory, progress) as scheduler:
        work = open_split(options, split, scheduler, progress)
        work.check_size()
        work.plan()
        offsets, order = work.count()
        path = work.place(options.out)
        plans = work.chunk_plans(offsets)
        started = time.perf_counter()
        rows = cut_rows(work.tiled, plans[len(plans) // 2], order, offsets, work.reading.sums)
        seconds = time.perf_counter() - started
        codec = try_codecs(work.tiled, order, offsets, work.reading.sums)
        stored = stored_bytes(rows, codec)
        return {
            "store": str(path),
            "rows": int(offsets[-1]),
            "dim": rows.shape[1],
            "bytes": stored * int(offsets[-1]) // len(rows),
            "seconds": seconds * len(plans) / scheduler.at_once,
            "memory": scheduler.needed + resident(),
            "reused": is_there(path),
        }


def in_words(result: dict[str, Any]) -> str:
    """Either result in a line for people."""
    size = f"{result['bytes'] / 1e6:.1f} MB"
    what = f"{result['store']}: {result['rows']:,} rows of {result['dim']}, {size}"
    seconds = rounded(result["seconds"])
    if "memory" in result:
        there = ", there already" if result["reused"] else ""
        needed = f"{result['memory'] / (1 << 20):.0f} MiB of memory"
        return f"{what}, about {seconds} s, {needed}{there}; nothing is written"
    verb = "reused" if result["reused"] else f"extracted in {result['seconds']:.1f} s"
    if result["repaired"]:
        verb += f", {result['repaired']} damaged chunks written again"
    return f"{what}, {verb}"
