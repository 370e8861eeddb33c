"""Small experiments."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline import SweepOptions, sweep


def learn(out: Path, k: tuple[int, ...], **options: Any) -> Path:
    """The folder of a small experiment; of the digits it is that of the fixture `digits_folder`."""
    fields = {"dataset": "digits", "max_iter": 2, "breathing": 0, "device": "cpu"} | options
    return Path(sweep(SweepOptions(out=out, k=k, **fields))["experiment"])


def small_images(path: Path, *channels: int, seed: int = 0) -> str:
    rng = np.random.default_rng(seed)
    images = np.zeros((12, 9, 10, *channels), np.uint8)
    images[:, 2:7, 3:8] = rng.integers(0, 256, (12, 5, 5, *channels))
    np.save(path, images)
    return str(path)
