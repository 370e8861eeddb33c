"""Fixtures shared by all folders."""

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from distributed.utils import get_mp_context
from filelock import FileLock
from hypothesis import settings
from numba.core.caching import NullCache
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

import pipeline.runtime.memory
from pipeline import SweepOptions, k_sweep, sweep
from pipeline.kmeans.compilation import compile_apart
from pipeline.runtime.devices import gpu_possible
from pipeline.stages import learning
from storage.places import client
from storage.places.remote import RemotePlace
from tests.buckets import ENVIRONMENT, SlowProxy, bucket_server
from tests.idx_files import write_idx


def has_cuda() -> bool:
    """Whether there is a CUDA GPU; torch is imported only where there may be one."""
    if not gpu_possible():
        return False
    import torch

    return torch.cuda.is_available()


if not has_cuda():
    os.environ["TRITON_INTERPRET"] = "1"  # read when kernels are defined: they run on the CPU

# No test asserts a time: machines are busy.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

START_METHOD = "distributed.worker.multiprocessing-method"
WORKER_MODULES = ["distributed.nanny", "pipeline.kmeans.fitter", "sklearn.datasets"]
MNIST_FILES = ("train-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte.gz")


@pytest.fixture(scope="session", autouse=True)
def fresh_process() -> Iterator[None]:
    """Caps count from what a new process holds, not from what hundreds of tests left in this one.

    What a command really takes is measured in processes of its own.
    """
    real = pipeline.runtime.memory.resident
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.runtime.memory, "resident", lambda: min(real(), 400 << 20))
        yield


@pytest.fixture(scope="session", autouse=True)
def unflushed() -> Iterator[None]:
    """Nothing waits for the disk: a test does not outlive the machine.

    That files are flushed, and when, is seen by tests of `storage.atomic`.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What several processes of `make test` lack is compiled by one of them, others load it."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    # By that name tests that watch which files are opened look away, as from kernels.
    folder = tmp_path_factory.getbasetemp().parent / "__pycache__"
    folder.mkdir(exist_ok=True)
    compile_here = Dispatcher.compile

    def alone(kernel: Dispatcher, signature: Any) -> Any:
        if isinstance(kernel._cache, NullCache):  # a part of another, which is kept
            return compile_here(kernel, signature)
        named = f"{kernel.__module__}.{kernel.__qualname__}.lock"
        with global_compiler_lock, FileLock(folder / named):
            return compile_here(kernel, signature)

    def apart(*asked: Any) -> None:
        with FileLock(folder / "compile_apart.lock"):
            compile_apart(*asked)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Dispatcher, "compile", alone)
        for module in (k_sweep, learning):
            patch.setattr(module, "compile_apart", apart)
        yield


@pytest.fixture(scope="session", autouse=True)
def forked_workers() -> Iterator[None]:
    """Workers of local clusters are forked from a process that has their modules loaded.

    Users' are spawned, as those of commands in processes of their own and of tests that ask for
    `spawned`.
    """
    with dask.config.set({START_METHOD: "forkserver"}):
        get_mp_context().set_forkserver_preload(WORKER_MODULES)  # in place of Dask's own
        yield


@pytest.fixture
def spawned() -> Iterator[None]:
    """Workers start as users' do, and with this process's environment."""
    with dask.config.set({START_METHOD: "spawn"}):
        yield


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder of the canonical MNIST files; skips where they are absent."""
    default = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    folder = Path(os.environ.get("MNIST_DIR", default))
    if not all((folder / name).is_file() for name in MNIST_FILES):
        pytest.skip(f"no MNIST files in {folder}: set MNIST_DIR")
    return folder


@pytest.fixture(scope="session")
def strokes() -> np.ndarray:
    """Images with blank parts, as digits have: (60, 12, 10) uint8."""
    rng = np.random.default_rng(5)
    images = np.zeros((60, 12, 10), np.uint8)
    for image in images:
        for _ in range(3):
            row, col = rng.integers(0, 10), rng.integers(0, 8)
            image[row : row + rng.integers(1, 4), col : col + rng.integers(1, 4)] = rng.integers(
                1, 256
            )
    images[7] = 0  # an image without any patch
    return images


@pytest.fixture
def strokes_file(strokes: np.ndarray, tmp_path: Path) -> Path:
    """`strokes` as an IDX file."""
    return write_idx(tmp_path / "strokes-idx3-ubyte", strokes)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of reports are put together and not drawn, which takes long: for tests of words.

    Nor does Bokeh go through the models of their pages, as it does for tests of pages.
    """
    monkeypatch.setenv("BOKEH_VALIDATE_DOC", "no")
    for name in ("to_png", "to_svg", "to_pdf"):
        monkeypatch.setattr(f"analysis.html_report.figures.figure.{name}", lambda *_: b"")


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """What `make` returns of a folder of this name, to be kept as JSON.

    It is made once for all processes of `make test`: tests copy files before they change them.
    """
    beside = factory.getbasetemp()
    folder = beside.parent if "PYTEST_XDIST_WORKER" in os.environ else beside
    told = folder / f"{name}.json"
    with FileLock(folder / f"{name}.lock"):
        if not told.exists():
            told.write_text(json.dumps(make(folder / name)))
    found: dict[str, Any] = json.loads(told.read_text())
    return found


@pytest.fixture(scope="session")
def digits_swept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `sweep` returns for three dictionaries of the digits with the defaults."""

    def make(folder: Path) -> dict[str, Any]:
        options = SweepOptions(dataset="digits", k=(10, 20, 50), out=folder / "runs", device="cpu")
        return sweep(options)

    return made_once(tmp_path_factory, "digits_swept", make)


@pytest.fixture(scope="session")
def served() -> Iterator[SlowProxy]:
    """A server of buckets on this machine, of which one is called `bucket`."""
    with bucket_server() as proxy:
        yield proxy


@pytest.fixture
def bucket(
    served: SlowProxy,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
    spawned: None,
) -> Iterator[RemotePlace]:
    """A folder in that bucket for each test."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": served.url}.items():
        monkeypatch.setenv(name, value)
    client.connected.cache_clear()
    served.seconds, served.faults = 0.0, []
    served.requests.clear()
    yield RemotePlace.of(f"s3://bucket/{re.sub(r'[^A-Za-z0-9]+', '-', request.node.name)}")
    client.connected.cache_clear()
