"""Rows of large patches: photographs in bytes, contrast-normalised and whitened; whole digits."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sklearn.datasets import load_sample_images

from storage.images.source import open_images

STEP = 1 << 16  # rows in work at once


def kinds(data: Path) -> Iterator[tuple[str, np.ndarray, int]]:
    """What rows are, themselves, (n, d), in random order, and a number of centroids."""
    small, large = colour_patches(8), colour_patches(16)
    yield "8×8×3 bytes, d = 192", small, 1000
    yield "16×16×3 bytes, d = 768", large, 1000
    yield "8×8×3 float32, contrast-normalised, d = 192", normalised(small), 1000
    yield "8×8×3 float32, ZCA-whitened, d = 192", whitened(normalised(small)), 1000
    digits = open_images("mnist", "train", data)
    yield "whole MNIST images, d = 784", digits.read(slice(None)).reshape(len(digits), -1), 979


def colour_patches(side: int) -> np.ndarray:
    """All patches of scikit-learn's two photographs at stride 1, (n, side² · 3) uint8."""
    rows = []
    for image in load_sample_images().images:
        windows = np.lib.stride_tricks.sliding_window_view(image, (side, side), axis=(0, 1))
        rows.append(windows.transpose(0, 1, 3, 4, 2).reshape(-1, side * side * 3))
    joined = np.concatenate(rows)
    return joined[np.random.default_rng(0).permutation(len(joined))]


def normalised(rows: np.ndarray) -> np.ndarray:
    """Each less its mean, over its standard deviation and a little (Coates, Ng 2012), float32."""
    out = np.empty(rows.shape, np.float32)
    for first in range(0, len(rows), STEP):
        part = rows[first : first + STEP].astype(np.float32)
        part -= part.mean(axis=1, keepdims=True)
        out[first : first + STEP] = part / np.sqrt(part.var(axis=1, keepdims=True) + 10)
    return out


def whitened(rows: np.ndarray) -> np.ndarray:
    """ZCA with 0.1 added to each variance (Coates, Ng 2012), float32, in place."""
    some = rows[:STEP].astype(np.float64)
    mean = some.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(some.T))
    turn = vectors / np.sqrt(values + 0.1) @ vectors.T
    for first in range(0, len(rows), STEP):
        rows[first : first + STEP] = (rows[first : first + STEP] - mean) @ turn
    return rows
