"""Labels against float64's, and sums against whole numbers, on the device itself."""

from dataclasses import dataclass

import numpy as np
import torch

from pipeline.engines.device.kernels import UNLABELLED
from tests.benchmarks.gpu.sampling import centroids_of, on_device, sample_rows
from tests.benchmarks.gpu.settings import Settings, make_kernels

SCORES_AT_ONCE = 1 << 26  # of rows × centroids, float64
NEAR = 1e-9  # of the lengths: nearer than that, distances are worked out by differences
SHAPES_OF_WIDE_TYPES = 25  # d at which other types than bytes are checked
TIED = 64  # pairs of centroids that a row lies between


@dataclass(frozen=True)
class Agreement:
    """equal: share of labels that are float64's. excess: of the SSE, relative to float64's."""

    equal: float
    excess: float


def measure(settings: Settings) -> list[dict[str, str]]:
    """A row for each type, d and K."""
    table = []
    for dim in settings.dims:
        found, _ = sample_rows(settings, dim, settings.checked_rows)
        for dtype in (
            (np.uint8, np.uint16, np.float32) if dim == SHAPES_OF_WIDE_TYPES else (np.uint8,)
        ):
            rows = on_device(as_type(found, np.dtype(dtype)), settings.torch_device)
            sizes = [k for k in settings.k if k <= len(rows)]
            table += [_row(settings, rows, k, np.dtype(dtype)) for k in sizes]
    return table


def as_type(rows: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Bytes, 16 bits with all of them in use, or floats between 0 and 1."""
    if dtype == np.uint8:
        return rows
    noise = np.random.default_rng(1).integers(0, 256, rows.shape, np.uint8)
    wide = (rows.astype(np.uint16) << 8) | noise
    return wide if dtype == np.uint16 else wide.astype(np.float32) / np.float32(65535)


def _row(settings: Settings, rows: torch.Tensor, k: int, dtype: np.dtype) -> dict[str, str]:
    n, dim = rows.shape
    centroids = centroids_of(settings, rows, k, dtype)
    kernels = make_kernels(settings, dim, dtype)
    kernels.load(centroids)
    labels = torch.full((n,), UNLABELLED, dtype=torch.int32, device=rows.device)
    kernels.label(rows, labels)
    agreement = compare(rows, centroids, labels)
    doubled = np.concatenate([centroids, centroids])
    kernels.load(doubled)
    again = torch.full_like(labels, UNLABELLED)
    kernels.label(rows, again)
    beyond = int((again >= k).sum()) + int((again < 0).sum())
    right, tied = ties(settings, dim, dtype)
    return {
        "rows": f"{n:,} {dtype}",
        "d": str(dim),
        "K": str(k),
        "labels as float64's": f"{100 * agreement.equal:.5f} %",
        "excess SSE": f"{agreement.excess:.1e}",
        "sums and counts": sums_agree(settings, rows, labels, k, dtype),
        "doubled centroids": "lowest index" if beyond == 0 else f"{beyond} of the later ones",
        "ties to the lowest": f"{right} of {tied}",
    }


def compare(rows: torch.Tensor, centroids: np.ndarray, labels: torch.Tensor) -> Agreement:
    """Of some labels with the right ones."""
    right = exact_labels(rows, centroids)
    wide = torch.from_numpy(centroids.astype(np.float64)).to(rows.device)
    ours, best = (squared_distances(rows, wide, found) for found in (labels, right))
    excess = (ours - best) / best if best > 0 else ours - best
    return Agreement(float((labels == right).double().mean()), excess)


def exact_labels(rows: torch.Tensor, centroids: np.ndarray) -> torch.Tensor:
    """Nearest centroids by float64, ties to the lowest index, (n,) int32."""
    _, first = np.unique(centroids, axis=0, return_index=True)
    keep = np.sort(first)  # of equal ones the first alone, so that few rows are near a tie
    wide = torch.from_numpy(centroids[keep].astype(np.float64)).to(rows.device)
    shift = wide.mean(0)
    shifted = wide - shift
    half_norms = 0.5 * shifted.square().sum(1)
    labels = torch.empty(len(rows), dtype=torch.int64, device=rows.device)
    size = max(1, SCORES_AT_ONCE // len(keep))
    for start in range(0, len(rows), size):
        x = rows[start : start + size].double()
        scores = torch.addmm(half_norms, x - shift, shifted.T, alpha=-1)
        best, label = scores.min(1)
        margin = NEAR * (1 + (x - shift).square().sum(1) + best.abs())
        near = scores <= (best + margin)[:, None]
        unclear = near.sum(1) > 1
        some, (row, centroid) = x[unclear], near[unclear].nonzero().T
        if len(some):
            squares = scores.new_full((len(some), len(keep)), torch.inf)
            squares[row, centroid] = (some[row] - wide[centroid]).square().sum(1)
            label[unclear] = first_minimum(squares)
        labels[start : start + size] = label
    return torch.from_numpy(keep).to(rows.device)[labels].int()


def first_minimum(values: torch.Tensor) -> torch.Tensor:
    """Lowest index of the least value of each row; torch's own argmin promises none."""
    index = torch.arange(values.shape[1], device=values.device)
    least = values == values.min(1, keepdim=True).values
    return torch.where(least, index, values.shape[1]).min(1).values


def squared_distances(rows: torch.Tensor, centroids: torch.Tensor, labels: torch.Tensor) -> float:
    """Sum over the rows, float64, by differences."""
    total = 0.0
    size = max(1, SCORES_AT_ONCE // rows.shape[1])
    for start in range(0, len(rows), size):
        part = slice(start, start + size)
        apart = rows[part].double() - centroids[labels[part].long()]
        total += float(apart.square().sum())
    return total


def sums_agree(
    settings: Settings, rows: torch.Tensor, labels: torch.Tensor, k: int, dtype: np.dtype
) -> str:
    """Of bytes: those of `add`, and of `move` from other labels, against int64's of the host."""
    if dtype.itemsize > 1:
        return "–"
    expected = whole_sums(rows, labels, k)
    kernels = make_kernels(settings, rows.shape[1], dtype)
    kernels.load(np.zeros((k, rows.shape[1]), np.float32))
    added = kernels.totals(k)
    added.add(rows, labels)
    moved = kernels.totals(k)
    before = torch.where(torch.arange(len(rows), device=rows.device) % 3 == 0, labels, 0).int()
    moved.add(rows, before)
    moved.move(rows, before, labels)
    wrong = [
        name
        for name, totals in (("add", added), ("move", moved))
        for ours, right in zip(totals.fetch(), expected, strict=True)
        if not np.array_equal(ours, right)
    ]
    return "exact" if not wrong else "WRONG: " + ", ".join(sorted(set(wrong)))


def whole_sums(
    rows: torch.Tensor, labels: torch.Tensor, k: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums (k, d), counts (k,), sums of squared lengths (k,), int64, by the host."""
    host, label = rows.cpu().numpy(), labels.cpu().numpy()
    counts = np.bincount(label, minlength=k)
    # Below 2^53 float64 holds whole numbers, so weights of bincount add up exactly.
    columns = [np.bincount(label, host[:, j], k) for j in range(host.shape[1])]
    lengths = np.square(host.astype(np.int32)).sum(1)
    squares = np.bincount(label, lengths, k)
    return np.stack(columns, 1).astype(np.int64), counts, squares.astype(np.int64)


def ties(settings: Settings, dim: int, dtype: np.dtype) -> tuple[int, int]:
    """Rows half-way between two centroids: how many got the one of the lower index, of how many."""
    rng = np.random.default_rng(2)
    if dtype.kind == "f":  # eighths: exact in all that computes
        middle, step = rng.integers(0, 8, (TIED, dim)) / 8, rng.integers(0, 2, (TIED, dim)) / 32
    else:
        middle = rng.integers(64, 192, (TIED, dim)).astype(np.float64)
        step = rng.integers(0, 3, (TIED, dim)).astype(np.float64)
    step[:, 0] = max(float(step.max()), 1 / 32)  # no pair is one point
    order = rng.permutation(2 * TIED)
    centroids = np.concatenate([middle - step, middle + step])[order].astype(np.float32)
    rows = on_device(middle.astype(dtype), settings.torch_device)
    labels = torch.full((TIED,), UNLABELLED, dtype=torch.int32, device=rows.device)
    kernels = make_kernels(settings, dim, dtype)
    kernels.load(centroids)
    kernels.label(rows, labels)
    right = exact_labels(rows, centroids)
    return int((labels == right).sum()), TIED
