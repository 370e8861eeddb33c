"""`make bench-gpu`: ceilings, correctness, rates beside peers, and the study, on a CUDA GPU.

`BENCH` of make holds the options: `BENCH="--quick --only ceilings,rates"`; `--help` lists them.
Whatever stops a part is told in one line, and the next one begins.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from pipeline.config import FitOptions
from pipeline.engines.device.kernels import UNLABELLED, DeviceKernels
from pipeline.engines.device.spec import DeviceSpec
from pipeline.engines.engine import EngineSpec
from pipeline.execution.executor import LocalExecutor
from pipeline.extraction.extract import extract
from pipeline.kmeans.fitter import generator
from pipeline.kmeans.lloyd import Lloyd
from pipeline.kmeans.loop import StoppingRules
from pipeline.kmeans.seeding import seed_centroids
from pipeline.rows.source import StoreSource
from pipeline.runtime.devices import Device, resolve_device
from pipeline.runtime.machine import device_name, processor
from tests.benchmarks.tables import number, show

Table = list[dict[str, str]]
BYTES = np.dtype(np.uint8)
STUDY = (*range(100, 1001, 100), *range(2000, 10001, 1000))
SCORES_AT_ONCE = 1 << 26  # of rows × centroids
LATER = 0.05  # share of labels that change in a later pass
WARM_UPS, ITERATIONS = 2, 2
FLASH_LEVELS = 256  # float16 ends at 65504, below most squared lengths, so rows are divided by that


@dataclass(frozen=True)
class Settings:
    """One field for each option.

    rows, products: rows and rows · K · d of a measurement, at most. checked: rows whose labels are
    compared with float64's. matrix: side of the matrices of the ceilings.
    """

    device: str = "cuda"
    engine: str = "auto"
    dataset: str = "mnist"
    data: str = "data"
    k: tuple[int, ...] = (100, 1000, 10000)
    dims: tuple[int, ...] = (25, 81, 147)
    rows: int = 1 << 23
    products: int = 2_000_000_000_000
    checked: int = 1_000_000
    repeats: int = 5
    matrix: int = 8192
    study_k: tuple[int, ...] = STUDY
    study_passes: int = 100

    @property
    def found(self) -> Device:
        """The device itself."""
        return resolve_device(self.device)

    def spec(self, dim: int, dtype: np.dtype = BYTES) -> DeviceSpec:
        """The engine that is measured, for such rows."""
        name = self.engine
        if name == "auto" and self.found.type == "cpu":
            name = "torch"  # the pruned engine is none of a device
        spec = EngineSpec.resolve(name, self.found, dim, np.dtype(dtype))
        assert isinstance(spec, DeviceSpec)
        return spec


QUICK = {"rows": 1 << 20, "products": 100_000_000_000, "checked": 100_000, "repeats": 3}
QUICK |= {"matrix": 4096, "study_k": (100, 1000), "study_passes": 10}


def median_seconds(settings: Settings, work: Callable[[], object]) -> float:
    """Seconds of one call, after some that do not count, until the device has done it."""
    for _ in range(WARM_UPS):
        work()
    device, seconds = settings.found, []
    wait = partial(torch.cuda.synchronize, device.torch) if device.type == "cuda" else int
    for _ in range(settings.repeats):
        wait()
        started = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def made_up(dim: int, n: int) -> np.ndarray:
    """Mixtures of a few rows with noise, (n, dim) uint8."""
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (512, dim)).astype(np.float32)
    rows = np.empty((n, dim), np.uint8)
    for start in range(0, n, 1 << 18):
        part = rows[start : start + (1 << 18)]
        one, other = rng.integers(0, len(few), (2, len(part)))
        share = rng.random((len(part), 1), dtype=np.float32)
        mixed = share * few[one] + (1 - share) * few[other] + rng.normal(0, 12, part.shape)
        part[:] = np.clip(np.rint(mixed), 0, 255)
    return rows


def some_centroids(rows: np.ndarray, k: int) -> np.ndarray:
    """Rows drawn at random, a little apart from them, (k, d) float32."""
    rng = np.random.default_rng(k)
    picked = rows[rng.permutation(len(rows))[:k]].astype(np.float32)
    return picked + rng.normal(0, 2, picked.shape).astype(np.float32)


def labels_of(kernels: DeviceKernels, rows: torch.Tensor, centroids: np.ndarray) -> torch.Tensor:
    """As the kernels find them, (n,) int32."""
    labels = torch.full((len(rows),), UNLABELLED, dtype=torch.int32, device=rows.device)
    kernels.load(centroids)
    kernels.label(rows, labels)
    return labels


def ceilings(settings: Settings) -> Iterator[tuple[str, Table]]:
    """What the machine can do at most: copies and matrix products, on random data."""
    where = settings.found.torch
    machine = {"device": device_name(settings.found), "engine": settings.spec(25).name}
    machine |= {"processor": processor(), "torch": torch.__version__}
    yield "Machine", [machine]
    size = settings.matrix**2
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=where)
    target = torch.empty_like(source)
    host = torch.randint(0, 256, (size,), dtype=torch.uint8, pin_memory=where.type == "cuda")
    copied = 2 * size / median_seconds(settings, partial(target.copy_, source))
    sent = size / median_seconds(settings, partial(target.copy_, host, non_blocking=True))
    found = {
        "copy on the device, read + written": f"{number(copied / 1e9)} GB/s",
        "host to device, pinned": f"{number(sent / 1e9)} GB/s",
    }
    for name, dtype in (("float16", torch.float16), ("float32", torch.float32)):
        shape = (settings.matrix, settings.matrix)
        left, right = (torch.randn(shape, device=where).to(dtype) for _ in range(2))
        seconds = median_seconds(settings, partial(torch.matmul, left, right))
        found[f"{name} matrix product"] = (
            f"{number(2 * settings.matrix**3 / seconds / 1e12)} TFLOP/s"
        )
    yield "Ceilings, measured in this run", [{"ceiling": n, "": v} for n, v in found.items()]


def correctness(settings: Settings) -> Iterator[tuple[str, Table]]:
    """Labels against float64's; equal centroids against the first of them."""
    table = []
    for dim in settings.dims:
        found = made_up(dim, settings.checked)
        for dtype in (BYTES, np.dtype(np.float32)):
            rows = found.astype(dtype)
            table += [_checked(settings, rows, k) for k in settings.k if k <= len(rows)]
    yield "Correctness against float64", table


def _checked(settings: Settings, rows: np.ndarray, k: int) -> dict[str, str]:
    dim, there = rows.shape[1], torch.from_numpy(rows).to(settings.found.torch)
    centroids = some_centroids(rows, k)
    kernels = settings.spec(dim, rows.dtype).kernels()
    labels = labels_of(kernels, there, centroids)
    equal, excess = compare(there, centroids, labels)
    doubled = labels_of(kernels, there, np.concatenate([centroids, centroids]))
    return {
        "rows": f"{len(rows):,} {rows.dtype}",
        "d": str(dim),
        "K": str(k),
        "labels as float64's": f"{100 * equal:.5f} %",
        "excess SSE": f"{excess:.1e}",
        "doubled centroids": "lowest index" if int(doubled.max()) < k else "WRONG",
    }


def compare(rows: torch.Tensor, centroids: np.ndarray, labels: torch.Tensor) -> tuple[float, float]:
    """Share of labels that are float64's, and by how much their SSE is more, relative to that."""
    wide = torch.from_numpy(centroids).to(rows.device).double()
    equal, ours, best = 0, 0.0, 0.0
    size = max(1, SCORES_AT_ONCE // len(wide))
    for start in range(0, len(rows), size):
        x, label = rows[start : start + size].double(), labels[start : start + size].long()
        distances = torch.cdist(x, wide, compute_mode="donot_use_mm_for_euclid_dist").square()
        least = distances.min(1).values
        mine = distances.gather(1, label[:, None])[:, 0]
        equal += int((mine == least).sum())
        ours, best = ours + float(mine.sum()), best + float(least.sum())
    return equal / len(rows), (ours - best) / max(best, 1e-300)


def rates(settings: Settings) -> Iterator[tuple[str, Table]]:
    """Million rows a second: of assignments and of Lloyd iterations, beside peers."""
    assigned, passes = [], []
    for dim in settings.dims:
        everything = made_up(dim, settings.rows)
        for k in settings.k:
            rows = everything[: max(k, settings.products // (k * dim))]
            there, centroids = (
                torch.from_numpy(rows).to(settings.found.torch),
                some_centroids(rows, k),
            )
            common = {"d": str(dim), "K": str(k), "rows": f"{len(rows):,}"}
            label, first, later = our_seconds(settings, there, centroids)
            peers = {name: peer_seconds(settings, name, there, centroids) for name in PEERS}
            rate = partial(_rate, len(rows))
            flops = f"{number(2 * len(rows) * k * dim / label / 1e12)}"
            assigned.append(
                common
                | {"ours": rate(label), "TFLOP/s": flops}
                | {name: rate(peer[0]) for name, peer in peers.items()}
            )
            passes.append(
                common
                | {"ours, first": rate(first), f"ours, {LATER:.0%} change": rate(later)}
                | {name: rate(peer[1]) for name, peer in peers.items()}
            )
    yield "Assignment alone, rows on the device, million rows/s", assigned
    yield "Lloyd iteration, million rows/s", passes


def our_seconds(
    settings: Settings, rows: torch.Tensor, centroids: np.ndarray
) -> tuple[float, float, float]:
    """Seconds of an assignment, a first pass, and a later one, in which few labels change."""
    k = len(centroids)
    kernels = settings.spec(rows.shape[1]).kernels()
    labels = labels_of(kernels, rows, centroids)
    before, kept = changed(labels, k, LATER), kernels.sums(k)
    kept.add(rows, before)

    def first() -> None:
        labels_of(kernels, rows, centroids)
        sums = kernels.sums(k)
        sums.add(rows, labels)
        sums.fetch()

    def later() -> None:
        labels_of(kernels, rows, centroids)
        kept.move(rows, before, labels)
        kept.fetch()

    alone = median_seconds(settings, partial(kernels.label, rows, labels))
    return alone, median_seconds(settings, first), median_seconds(settings, later)


def changed(labels: torch.Tensor, k: int, share: float) -> torch.Tensor:
    """Other labels for so many of the rows, anywhere among them."""
    chosen = torch.rand(len(labels), device=labels.device) < share
    return torch.where(chosen, (labels + 1) % k, labels).contiguous()


Peer = tuple[Callable[[], torch.Tensor], Callable[[int], object]]  # assigns; iterates so often


def torch_peer(rows: torch.Tensor, centroids: np.ndarray) -> Peer:
    """Scores chunk by chunk, the least of each row, sums by index; all in float32."""
    wide, start = rows.float(), torch.from_numpy(centroids).to(rows.device)

    def labels(centroids: torch.Tensor = start) -> torch.Tensor:
        half = 0.5 * centroids.square().sum(1)
        parts = wide.split(max(1, SCORES_AT_ONCE // len(centroids)))
        return torch.cat([torch.addmm(half, x, centroids.T, alpha=-1).argmin(1) for x in parts])

    def iterate(count: int) -> torch.Tensor:
        moved = start
        for _ in range(count):
            label = labels(moved)
            sums = torch.zeros_like(moved).index_add_(0, label, wide)
            counts = torch.bincount(label, minlength=len(moved))[:, None]
            moved = torch.where(counts > 0, sums / counts.clamp(min=1), moved)
        return moved

    return labels, iterate


def flash_peer(rows: torch.Tensor, centroids: np.ndarray, *, dtype: torch.dtype) -> Peer:
    """The package flash-kmeans: its assignment kernel, and its loop."""
    from flash_kmeans import batch_kmeans_Euclid  # not a dependency
    from flash_kmeans.assign_euclid_triton import euclid_assign_triton

    scale, k = FLASH_LEVELS if dtype == torch.float16 else 1, len(centroids)
    x = (rows.to(dtype) / scale)[None]  # of one batch
    start = (torch.from_numpy(centroids).to(rows.device) / scale).to(dtype)[None]
    lengths = x.square().sum(-1)

    def iterate(count: int) -> object:
        return batch_kmeans_Euclid(x, k, max_iters=count, tol=0.0, init_centroids=start.clone())

    return partial(euclid_assign_triton, x, start, lengths), iterate


PEERS: dict[str, Callable[[torch.Tensor, np.ndarray], Peer]] = {
    "torch": torch_peer,
    "flash-kmeans float32": partial(flash_peer, dtype=torch.float32),
    "flash-kmeans float16": partial(flash_peer, dtype=torch.float16),
}


def peer_seconds(
    settings: Settings, name: str, rows: torch.Tensor, centroids: np.ndarray
) -> tuple[float | str, float | str]:
    """Seconds of an assignment and of an iteration; whatever stops it is told in their place."""
    try:
        assign, iterate = PEERS[name](rows, centroids)
        alone = median_seconds(settings, assign)
        one = median_seconds(settings, partial(iterate, 1))
        more = median_seconds(settings, partial(iterate, 1 + ITERATIONS))
        # What comes before the first iteration drops out; its assignment it takes at least.
        return alone, max((more - one) / ITERATIONS, alone)
    except ImportError:
        return "not installed", "not installed"
    except Exception as error:  # of code that is not ours
        reason = f"failed: {_first_line(error)}"
        return reason, reason


def _rate(n: int, seconds: float | str) -> str:
    return seconds if isinstance(seconds, str) else number(n / seconds / 1e6)


def study(settings: Settings) -> Iterator[tuple[str, Table]]:
    """Full-batch Lloyd from random rows, for each K."""
    with tempfile.TemporaryDirectory() as folder:
        store = extract(settings.dataset, out=folder, data=settings.data).store
        source = StoreSource(store)
        engine = settings.spec(source.dim).make(largest=max(settings.study_k))
        options = FitOptions(mode="full", init="random", tol=0, max_iter=settings.study_passes)
        rules = StoppingRules(options.passes, options.tol, options.least_gain, options.empty)
        table = []
        with closing(LocalExecutor(source, engine, engine.cache_for(source))) as executor:
            for k in settings.study_k:
                started, rng = time.perf_counter(), generator(options, k)
                loop = Lloyd(executor, rules, rng)
                loop.start(seed_centroids(source, k, options.init, rng))
                fit = loop.finish()
                seconds, passes = time.perf_counter() - started, len(fit.history.rows)
                row = {"K": str(k), "MSE": f"{fit.mse:.2f}", "passes": str(passes)}
                table.append(row | {"seconds": number(seconds)})
        yield f"The study: Lloyd over {source.n_rows:,} rows of {settings.dataset}", table


PARTS: dict[str, Callable[[Settings], Iterator[tuple[str, Table]]]] = {
    part.__name__: part for part in (ceilings, correctness, rates, study)
}


def parser() -> argparse.ArgumentParser:
    """Options of the command line: one for each field of `Settings`, and which parts."""
    found = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    found.add_argument("--only", help=f"parts of {','.join(PARTS)}; default: all")
    found.add_argument("--quick", action="store_true", help="small sizes, about a minute")
    for name, value in vars(Settings()).items():
        several = isinstance(value, tuple)
        kind = (lambda text: tuple(map(int, text.split(",")))) if several else type(value)
        found.add_argument(f"--{name.replace('_', '-')}", type=kind, help=f"default: {value}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Returns: the exit code; 0 also where there is no CUDA GPU, or a part failed and said why."""
    options = parser().parse_args(arguments)
    given = {name: getattr(options, name) for name in Settings.__dataclass_fields__}
    given = {name: value for name, value in given.items() if value is not None}
    settings = Settings(**((QUICK if options.quick else {}) | given))
    wanted = list(PARTS) if options.only is None else options.only.split(",")
    if unknown := [name for name in wanted if name not in PARTS]:
        print(f"no part {', '.join(unknown)}: use {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"no CUDA GPU: torch {torch.__version__} finds none; nothing is measured")
        return 0
    for name in wanted:
        try:
            for title, rows in PARTS[name](settings):
                show(title, rows)
        except Exception as error:  # the other parts go on
            print(f"\n{name}: failed: {_first_line(error)}", flush=True)
    return 0


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


if __name__ == "__main__":
    sys.exit(main())
