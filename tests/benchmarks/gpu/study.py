"""The study: full-batch Lloyd from random rows for each K, and the same K by the default sweep."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from pipeline.config import FitOptions, SweepOptions
from pipeline.execution.executor import LocalExecutor
from pipeline.k_sweep import sweep
from pipeline.kmeans.fitter import generator
from pipeline.kmeans.lloyd import Lloyd
from pipeline.kmeans.loop import StoppingRules
from pipeline.kmeans.seeding import seed_centroids
from tests.benchmarks.gpu.settings import Settings
from tests.benchmarks.gpu.store import SIDE, images_file, open_rows, timed_engine
from tests.benchmarks.gpu.timed import Stopwatch, TimedSource
from tests.benchmarks.tables import number

SPLIT = ("assign", "update", "copy", "read", "load")
MEMORY = "8GiB"  # cap of the sweep on the host


def measure(settings: Settings, folder: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A table: a row for each K, and one for all; stops after `study_seconds`."""
    source, name = open_rows(settings, folder)
    watch = Stopwatch(settings.torch_device)
    timed = TimedSource(source, watch)
    sizes = [k for k in settings.study_k if k <= source.n_rows]
    engine = timed_engine(settings, source, max(sizes), watch)
    executor = LocalExecutor(timed, engine, engine.cache_for(timed))
    rows: list[dict[str, float]] = []
    options = FitOptions(mode="full", init="random", tol=0, max_iter=settings.study_iterations)
    rules = StoppingRules(options.passes, options.tol, options.least_gain, options.empty)
    started = time.perf_counter()
    with closing(executor):
        for k in sizes:
            rows.append(_fit(executor, watch, options, rules, k))
            if time.perf_counter() - started > settings.study_seconds:
                break
    total = {name: sum(row[name] for row in rows) for name in rows[0]}
    done = "" if len(rows) == len(sizes) else f", {len(rows)} of them in the time that was given"
    title = f"The study: {len(sizes)} dictionaries of {name}{done}"
    yield title, [_shown(row, str(int(row["K"]))) for row in rows] + [_shown(total, "all")]


def nested(settings: Settings, folder: Path) -> Iterator[tuple[str, list[dict[str, str]]]]:
    """A table: what `make sweep` takes for these K with its defaults."""
    file = images_file(settings, folder)
    options = SweepOptions.checked(
        dataset=str(file),
        data=folder,
        out=folder,
        patch=(SIDE, SIDE),
        k=",".join(map(str, settings.study_k)),
        device=settings.device,
        memory=MEMORY,
    )
    started = time.perf_counter()
    found = sweep(options)
    seconds = time.perf_counter() - started
    table = [
        {"K": str(e["k"]), "seconds": number(e["seconds"]), "MSE": f"{e['mse']:.2f}"}
        for e in found["dictionaries"]
    ]
    table.append({"K": "all", "seconds": number(seconds), "MSE": ""})
    yield (
        f"make sweep with its defaults (nested, compiling included), {found['rows']:,} rows",
        table,
    )


def _fit(
    executor: LocalExecutor, watch: Stopwatch, options: FitOptions, rules: StoppingRules, k: int
) -> dict[str, float]:
    watch.read()
    started = time.perf_counter()
    rng = generator(options, k)
    loop = Lloyd(executor, rules, rng)
    loop.start(seed_centroids(executor.source, k, options.init, rng))
    fit = loop.finish()
    seconds = time.perf_counter() - started
    found = watch.read()
    return {
        "K": k,
        "MSE": fit.mse,
        "passes": len(fit.history.rows),
        "seconds": seconds,
        **{name: found.get(name, 0.0) for name in SPLIT},
    }


def _shown(row: dict[str, float], name: str) -> dict[str, str]:
    working = row["assign"] + row["update"]
    return {
        "K": name,
        "MSE": "" if name == "all" else f"{row['MSE']:.2f}",
        "passes": str(int(row["passes"])),
        "seconds": number(row["seconds"]),
        "assign": number(row["assign"]),
        "update": number(row["update"]),
        "copy": number(row["copy"]),
        "read, all threads": number(row["read"]),
        "centroids sent": number(row["load"]),
        "neither assign nor update": number(max(0.0, row["seconds"] - working)),
    }
