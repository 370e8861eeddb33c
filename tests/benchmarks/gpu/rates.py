"""Assignments and whole passes of rows that lie on the device, against ceilings and peers.

Useful operations: 2 n·K·d. Issued ones: those of all products that are taken, of padded columns and
centroids. Bytes: rows read and labels written. The nearer ceiling is what takes longer, bytes by
the copy's rate or issued operations by the matrix product's.
"""

import gc
from dataclasses import dataclass

import numpy as np
import torch

from tests.benchmarks.gpu.ceilings import Ceilings
from tests.benchmarks.gpu.peers import ITERATIONS, PEERS, Peer
from tests.benchmarks.gpu.sampling import centroids_of, on_device, sample_rows
from tests.benchmarks.gpu.settings import Settings, kernels_name, make_kernels
from tests.benchmarks.gpu.timing import alone_seconds, median_seconds
from tests.benchmarks.tables import number

MOST_BYTES = 1 << 29  # of rows
TILE = 64  # centroids of a tile, to which K is padded
MOST_REPEATS = 3  # of a peer
LATER = 0.05  # share of labels that change in a later pass
BYTES = np.dtype(np.uint8)


@dataclass(frozen=True)
class Times:
    """Seconds: of an assignment, and of a Lloyd iteration, or why there is none."""

    assign: float | str
    iterate: float | str


@dataclass(frozen=True)
class Ours:
    """Seconds: of an assignment, a first pass, and a later one, in which few labels change."""

    assign: float
    first: float
    later: float


def measure(settings: Settings, ceilings: Ceilings) -> dict[str, list[dict[str, str]]]:
    """Tables: assignments against ceilings and against peers, and passes."""
    against, assigned, passes = [], [], []
    for dim in settings.dims:
        found, _ = sample_rows(settings, dim, min(settings.rows, MOST_BYTES // dim))
        everything = on_device(found, settings.torch_device)
        for k in settings.k:
            rows = everything[: max(k, settings.products // (k * dim))].contiguous()
            centroids = centroids_of(settings, rows, k, BYTES)
            ours = our_times(settings, rows, centroids)
            peers = {name: peer_times(settings, name, rows, centroids) for name in PEERS}
            common = {"d": str(dim), "K": str(k), "rows": f"{len(rows):,}"}
            against.append(common | _against_ceiling(settings, ceilings, rows, k, ours.assign))
            assigned.append(common | _assigned(len(rows), ours, peers))
            passes.append(common | _passes(len(rows), ours, peers))
    return {
        "Assignment alone, rows on the device": against,
        "Assignment alone, million rows/s (ours is so many times faster)": assigned,
        "Lloyd iteration, million rows/s (our first pass is so many times faster)": passes,
    }


def our_times(settings: Settings, rows: torch.Tensor, centroids: np.ndarray) -> Ours:
    """Of our kernels; passes with centroids sent, sums fetched, and means taken on the host."""
    device, repeats, k = rows.device, settings.repeats, len(centroids)
    kernels = make_kernels(settings, rows.shape[1], BYTES)
    kernels.load(centroids)
    labels = torch.empty(len(rows), dtype=torch.int32, device=device)
    assign = median_seconds(device, lambda: kernels.label(rows, labels), repeats)
    before = changed(labels, k, LATER)
    kept = kernels.totals(k)
    kept.add(rows, before)

    def first() -> None:
        kernels.load(centroids)
        kernels.label(rows, labels)
        totals = kernels.totals(k)
        totals.add(rows, labels)
        _means(totals.fetch())

    def later() -> None:
        kernels.load(centroids)
        kernels.label(rows, labels)
        kept.move(rows, before, labels)
        _means(kept.fetch())

    return Ours(
        assign,
        alone_seconds(device, first, repeats),
        alone_seconds(device, later, repeats),
    )


def changed(labels: torch.Tensor, k: int, share: float) -> torch.Tensor:
    """Other labels for so many of the rows, anywhere among them."""
    generator = torch.Generator(labels.device).manual_seed(0)
    chosen = torch.rand(len(labels), generator=generator, device=labels.device) < share
    return torch.where(chosen, (labels + 1) % k, labels).contiguous()


def peer_times(settings: Settings, name: str, rows: torch.Tensor, centroids: np.ndarray) -> Times:
    """Of a peer; whatever stops it is told in its place."""
    device, repeats = rows.device, min(settings.repeats, MOST_REPEATS)
    try:
        peer: Peer = PEERS[name](rows, centroids)
        assign = median_seconds(device, peer.assign, repeats)
        # What comes before the first iteration drops out.
        one = alone_seconds(device, lambda: peer.iterate(1), repeats)
        more = alone_seconds(device, lambda: peer.iterate(1 + ITERATIONS), repeats)
        # Where noise is as large as what is left, an iteration is its assignment at least.
        return Times(assign, max((more - one) / ITERATIONS, assign))
    except ImportError:
        return Times("not installed", "not installed")
    except Exception as error:  # of code that is not ours
        reason = f"failed: {type(error).__name__} {str(error)[:60]}".splitlines()[0]
        return Times(reason, reason)
    finally:
        peer = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def issued(settings: Settings, n: int, k: int, dim: int) -> float:
    """Operations of all products that our kernels take for n rows of bytes."""
    if kernels_name(settings) != "fused":
        return 2.0 * n * k * dim
    from pipeline.engines.device.fused_search import widths  # needs Triton

    return 2.0 * 2.0 * n * -(-k // TILE) * TILE * sum(widths(dim, True))


def floor_seconds(
    settings: Settings, ceilings: Ceilings, n: int, k: int, dim: int
) -> tuple[float, str]:
    """What an assignment takes at least, and which ceiling says so."""
    moving = n * (dim + 4) / ceilings.copy
    rate = ceilings.half if kernels_name(settings) == "fused" else ceilings.single
    working = issued(settings, n, k, dim) / rate
    return max((moving, "copy"), (working, "products"))


def _against_ceiling(
    settings: Settings, ceilings: Ceilings, rows: torch.Tensor, k: int, seconds: float
) -> dict[str, str]:
    n, dim = rows.shape
    floor, which = floor_seconds(settings, ceilings, n, k, dim)
    return {
        "ms": f"{number(seconds * 1e3)}",
        "million rows/s": f"{number(n / seconds / 1e6)}",
        "TFLOP/s, useful": f"{number(2 * n * k * dim / seconds / 1e12)}",
        "TFLOP/s, issued": f"{number(issued(settings, n, k, dim) / seconds / 1e12)}",
        "GB/s": f"{number(n * (dim + 4) / seconds / 1e9)}",
        "nearer ceiling": which,
        "of it": f"{number(100 * floor / seconds)} %",
    }


def _assigned(n: int, ours: Ours, peers: dict[str, Times]) -> dict[str, str]:
    found = {name: _rate(n, times.assign, ours.assign) for name, times in peers.items()}
    return {"ours": number(n / ours.assign / 1e6)} | found


def _passes(n: int, ours: Ours, peers: dict[str, Times]) -> dict[str, str]:
    found = {name: _rate(n, times.iterate, ours.first) for name, times in peers.items()}
    return {
        "ours, first pass": number(n / ours.first / 1e6),
        f"ours, {LATER:.0%} of labels change": number(n / ours.later / 1e6),
    } | found


def _rate(n: int, theirs: float | str, ours: float) -> str:
    if isinstance(theirs, str):
        return theirs
    return f"{number(n / theirs / 1e6)} ({number(theirs / ours)} ×)"


def _means(totals: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    sums, counts, _ = totals
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32)
