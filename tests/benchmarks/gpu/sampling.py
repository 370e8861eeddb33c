"""Rows to measure with: patches of MNIST where its files are, else made up; and centroids."""

from pathlib import Path

import numpy as np
import torch

from pipeline.extraction.patches import cut_patches
from storage.images.idx import read_idx
from storage.patch_spec import PatchSpec
from tests.benchmarks.gpu.settings import Settings, make_kernels
from tests.benchmarks.tinting import tinted

SIDES = {25: 5, 81: 9, 147: 7}  # d -> side of a patch
IN_COLOUR = (147,)
IMAGES_AT_ONCE = 1000
ROWS_AT_ONCE = 1 << 20  # widened to 64 bits
PROTOTYPES = 512  # of made-up rows


def mnist_file(folder: Path) -> Path | None:
    """The training images, if they are there."""
    for name in ("train-images-idx3-ubyte.gz", "train-images-idx3-ubyte"):
        if (folder / name).is_file():
            return folder / name
    return None


def sample_rows(settings: Settings, dim: int, n: int) -> tuple[np.ndarray, str]:
    """So many rows of bytes, fewer where there are none left, (n, dim) uint8; and their name."""
    file = mnist_file(settings.mnist)
    if file is None or dim not in SIDES:
        return made_up(dim, n), "made-up rows"
    side = SIDES[dim]
    images = np.asarray(read_idx(file))
    order = np.random.default_rng(0).permutation(len(images))
    parts, found = [], 0
    for start in range(0, len(order), IMAGES_AT_ONCE):
        some = images[order[start : start + IMAGES_AT_ONCE]]
        parts.append(cut_patches(tinted(some) if dim in IN_COLOUR else some, PatchSpec(side, side)))
        found += len(parts[-1])
        if found >= n:
            break
    name = f"{side}×{side} patches of {'tinted ' if dim in IN_COLOUR else ''}MNIST"
    return np.concatenate(parts)[:n], name


def made_up(dim: int, n: int) -> np.ndarray:
    """Mixtures of a few rows with noise, (n, dim) uint8."""
    rng = np.random.default_rng(0)
    prototypes = rng.integers(0, 256, (PROTOTYPES, dim)).astype(np.float32)
    rows = np.empty((n, dim), np.uint8)
    for start in range(0, n, ROWS_AT_ONCE):
        count = len(rows[start : start + ROWS_AT_ONCE])
        pair = rng.integers(0, PROTOTYPES, (2, count))
        share = rng.random((count, 1), dtype=np.float32)
        mixed = share * prototypes[pair[0]] + (1 - share) * prototypes[pair[1]]
        noise = rng.normal(0, 12, (count, dim))
        rows[start : start + count] = np.clip(np.rint(mixed + noise), 0, 255)
    return rows


def on_device(rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """The rows there, contiguous."""
    return torch.from_numpy(np.ascontiguousarray(rows)).to(device)


def centroids_of(settings: Settings, rows: torch.Tensor, k: int, dtype: np.dtype) -> np.ndarray:
    """Means after two steps of Lloyd from rows drawn at random, (k, d) float32."""
    n = min(len(rows), max(64 * k, 1 << 16))
    some = rows[:n].contiguous()
    picked = np.random.default_rng(k).permutation(n)[:k]
    centroids = some.cpu().numpy()[picked].astype(np.float64)  # torch indexes no uint16 everywhere
    kernels = make_kernels(settings, rows.shape[1], dtype)
    labels = torch.empty(n, dtype=torch.int32, device=rows.device)
    for _ in range(2):
        kernels.load(centroids.astype(np.float32))
        kernels.label(some, labels)
        centroids = means(some, labels, centroids)
    return centroids.astype(np.float32)


def means(rows: torch.Tensor, labels: torch.Tensor, otherwise: np.ndarray) -> np.ndarray:
    """Of each cluster, float64; empty ones keep the row of `otherwise`, (k, d)."""
    k = len(otherwise)
    sums = torch.zeros((k, rows.shape[1]), dtype=torch.float64, device=rows.device)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        sums.index_add_(0, labels[part].long(), rows[part].double())
    counts = torch.bincount(labels.long(), minlength=k).double()[:, None]
    kept = torch.from_numpy(np.asarray(otherwise, np.float64)).to(rows.device)
    return torch.where(counts > 0, sums / counts.clamp(min=1), kept).cpu().numpy()
