"""Makes one large image: python -m tests.benchmarks.large_image FILE.zarr [ROWS COLS].

An OME-Zarr of 40,000 × 30,000 bytes (1.2 GB) in chunks of 1024 × 1024: smooth structure of several
scales, edges and noise, block by block, so that making it takes little memory.
"""

import sys
from pathlib import Path

import numpy as np
import zarr

CHUNK = 1024
ROWS, COLS = 40_000, 30_000


def make(path: Path, rows: int = ROWS, cols: int = COLS) -> None:
    """Write the image; the same bytes each time."""
    group = zarr.create_group(path, zarr_format=3)
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1]}]}
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [level], "name": "made"}],
    }
    image = group.create_array(
        "0", shape=(rows, cols), dtype="uint8", chunks=(CHUNK, CHUNK), dimension_names=("y", "x")
    )
    for top in range(0, rows, CHUNK):
        for left in range(0, cols, CHUNK):
            high, wide = min(CHUNK, rows - top), min(CHUNK, cols - left)
            image[top : top + high, left : left + wide] = block(top, left, high, wide)


def block(top: int, left: int, high: int, wide: int) -> np.ndarray:
    """Pixels of a part of the image, (high, wide) uint8."""
    y = np.arange(top, top + high, dtype=np.float32)[:, None]
    x = np.arange(left, left + wide, dtype=np.float32)[None]
    bend = 40 * np.sin(y / 700) + 25 * np.cos(x / 450)
    values = 110 + 45 * np.sin((x + bend) / 60) * np.cos(y / 90) + 20 * np.sin((x + y) / 9)
    values += np.where(np.sin((x - 2 * y + bend) / 200) > 0.9, 50, 0)  # edges
    values += np.random.default_rng([top, left]).normal(0, 6, (high, wide)).astype(np.float32)
    return np.clip(values, 0, 255).astype(np.uint8)


if __name__ == "__main__":
    make(Path(sys.argv[1]), *map(int, sys.argv[2:4]))
