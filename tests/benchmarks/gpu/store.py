"""The patch store that streaming and the study go through, cut once for all parts."""

from pathlib import Path

import numpy as np
import torch

from pipeline.engines.device.engine import DeviceEngine
from pipeline.extraction.extract import extract
from pipeline.rows.source import RowSource, StoreSource, prefix
from pipeline.runtime.devices import device_budget
from storage import PatchSpec
from storage.images.idx import read_idx
from tests.benchmarks.gpu.sampling import mnist_file
from tests.benchmarks.gpu.settings import Settings, make_kernels
from tests.benchmarks.gpu.timed import Stopwatch, TimedKernels, TimedStreams

SIDE = 5
PATCHES_OF_AN_IMAGE = 300  # at least, on average
MOST_IMAGES = 60_000
STROKES = 6  # of a made-up image


def images_file(settings: Settings, folder: Path) -> Path:
    """As many images as the rows need, in a file of this folder."""
    target = folder / "images.npy"
    if not target.is_file():
        n = min(MOST_IMAGES, -(-settings.study_rows // PATCHES_OF_AN_IMAGE))
        file = mnist_file(settings.mnist)
        np.save(target, made_up_images(n) if file is None else np.asarray(read_idx(file)[:n]))
    return target


def made_up_images(n: int) -> np.ndarray:
    """Rough strokes on black, (n, 28, 28) uint8."""
    rng = np.random.default_rng(0)
    images = np.zeros((n, 28, 28), np.uint8)
    for image in images:
        for row, column in rng.integers(0, 22, (STROKES, 2)):
            height, width = rng.integers(2, 7, 2)
            image[row : row + height, column : column + width] = rng.integers(
                1, 256, (height, width)
            )
    return images


def open_rows(settings: Settings, folder: Path) -> tuple[RowSource, str]:
    """The first rows of the store, and what they are."""
    spec = PatchSpec(SIDE, SIDE)
    file = images_file(settings, folder)
    store = extract(str(file), patch=spec, out=folder).store
    source = prefix(StoreSource(store), settings.study_rows)
    kind = "made-up images" if mnist_file(settings.mnist) is None else "MNIST"
    return source, f"{source.n_rows:,} {SIDE}×{SIDE} patches of {kind}"


def timed_engine(
    settings: Settings, source: RowSource, largest: int, watch: Stopwatch, budget: int | None = None
) -> DeviceEngine:
    """The engine of a device with stopwatches in it. budget: None: the default."""
    device = settings.torch_device
    kernels = TimedKernels(make_kernels(settings, source.dim, source.dtype), watch)
    allowed = device_budget(device, budget)
    engine = DeviceEngine(kernels, source.dim, source.dtype, allowed, largest=largest)
    engine._streams = TimedStreams(torch.device(kernels.device), watch)  # before any slot has it
    return engine
