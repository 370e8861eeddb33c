"""Which engine and device a run takes, what stays there, and what it says of them."""

import importlib.util
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import StreamingKMeans, SweepOptions, sweep
from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.execution.scheduler import Scheduler
from pipeline.extraction.extract import extract
from pipeline.kmeans.fitter import Fitter
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.source import ArraySource, StoreSource
from pipeline.runtime.devices import CPU, Device
from pipeline.runtime.progress import SilentProgress
from storage import InputError, MemoryBudgetError, PatchSpec
from tests.device_kernels import PlainKernels
from tests.device_sweeps import own_kernels, take_fused
from tests.idx_files import write_idx
from tests.notes import Notes

CUDA, MPS = Device("cuda", 0), Device("mps")
BYTES, WIDE = np.dtype(np.uint8), np.dtype(np.float64)


@pytest.fixture
def plain() -> Iterator[None]:
    """The fused engine is one of plain kernels on the CPU."""
    with own_kernels():
        take_fused(PlainKernels)
        yield


def with_triton(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    """A Triton of this version, or none, that compiles for GPUs alone."""
    find, load = importlib.util.find_spec, importlib.import_module
    runtime = SimpleNamespace(interpret=False)
    triton = SimpleNamespace(__version__=version, knobs=SimpleNamespace(runtime=runtime))

    def found(name: str, *rest: Any) -> Any:
        return (version and triton) if name == "triton" else find(name, *rest)

    fused = SimpleNamespace(triton_problem=lambda device: "")
    pretended = {"triton": triton, "pipeline.engines.device.fused_sums": fused}

    def loaded(name: str, *rest: Any) -> Any:
        return pretended.get(name) or load(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.setattr(importlib, "import_module", loaded)


def told(name: str, device: Device, dtype: np.dtype) -> tuple[str, str]:
    spec = EngineSpec.resolve(name, device, 25, dtype)
    return spec.name, spec.why


def test_auto_is_the_best_that_runs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with_triton(monkeypatch, "3.7.1")
    assert EngineSpec.resolve("auto", CPU, 25, BYTES).name == "pruned"
    assert EngineSpec.resolve("auto", MPS, 25, BYTES).name == "torch"
    assert told("auto", CUDA, BYTES) == ("fused", "")
    assert EngineSpec.resolve("auto", CUDA, 25, WIDE).name == "torch"
    assert told("auto", CUDA, WIDE)[1].endswith("not float64")
    with_triton(monkeypatch, None)
    assert told("auto", CUDA, BYTES) == ("torch", "as Triton is not installed")
    with_triton(monkeypatch, "3.5.1")
    assert told("auto", CUDA, BYTES)[1] == "as Triton 3.5.1 is older than 3.6"


@pytest.mark.parametrize(
    ("name", "device", "dtype", "message"),
    [
        ("fused", CUDA, WIDE, "takes bytes, 16-bit integers and float32, not float64"),
        ("fused", MPS, BYTES, "runs on cuda, not on mps"),
        ("fused", CPU, BYTES, "TRITON_INTERPRET=1 alone"),
        ("pruned", CUDA, BYTES, "runs on the cpu, not on cuda:0"),
        ("torch", MPS, WIDE, "MPS has no float64"),
        ("best", CPU, BYTES, "no engine 'best': use auto, torch, pruned, fused"),
    ],
)
def test_what_does_not_run_there_is_refused(
    name: str, device: torch.device, dtype: np.dtype, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_triton(monkeypatch, "3.7.1")
    with pytest.raises(InputError, match=message):
        told(name, device, dtype)


def test_fused_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    with_triton(monkeypatch, None)
    with pytest.raises(InputError, match="Triton is not installed: use engine torch or auto"):
        told("fused", CUDA, BYTES)


@pytest.mark.usefixtures("plain")
def test_a_cap_on_a_device_is_of_each_process_and_of_no_use_without_one() -> None:
    source = ArraySource(np.zeros((1 << 18, 25), np.uint8))

    def words(engine: str, cap: int | None, processes: str = "") -> str:
        spec, options = EngineSpec.resolve(engine, CPU, 25, BYTES), FitOptions.checked(mode="full")
        scheduler = Scheduler(processes)
        plan = FitPlan.make(source, [10], options, spec, scheduler, device_memory=cap)
        return " ".join(plan.notes)

    assert words("pruned", None) == ""
    assert "changes nothing" in words("pruned", 1 << 30)
    assert words("fused", 1 << 30).endswith("1.0 GiB allowed; all rows stay there")
    assert words("fused", 6 << 20).endswith(" of 262,144 rows stay there, the others are streamed")
    with pytest.raises(MemoryBudgetError, match=r"for each of 64 processes"):
        words("fused", 1 << 20, "processes:64")


@pytest.mark.usefixtures("plain")
def test_a_fit_says_where_it_computes_and_why(tmp_path: Path) -> None:
    notes = Notes()
    rows = np.random.default_rng(0).integers(0, 256, (300, 4), dtype=np.uint8)
    StreamingKMeans(3, progress=notes).fit(rows)
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        assert "on cpu: no CUDA GPU or Metal found; engine pruned" in notes.lines
    options = SweepOptions.checked(
        out=tmp_path, k="3", mode="full", max_iter=1, engine="fused", device="cpu"
    )
    notes = Notes()
    sweep(options, notes)
    assert "24,000 rows of 25, on cpu, engine fused" in notes.lines
    assert [line for line in notes.lines if line.startswith("device memory: ")]


@pytest.mark.usefixtures("plain")
def test_rows_that_are_scored_again_are_not_read_again(
    strokes: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 9 * 64)
    path = write_idx(tmp_path / "strokes-idx3-ubyte", strokes)
    store = extract(str(path), patch=PatchSpec(3, 3), out=tmp_path).store
    read = Counter[int]()

    class Counting(StoreSource):
        def read_block(self, index: int) -> np.ndarray:
            read[index] += 1
            return super().read_block(index)

    heldout, centroids = Counting(store), np.full((2, 9), [[10], [200]], np.float32)
    for engine, times in (("fused", 1), ("pruned", 2)):
        read.clear()
        with Scheduler("", 1 << 30) as scheduler:
            spec = EngineSpec.resolve(engine, CPU, store.dim, store.dtype)
            plan = FitPlan.make(StoreSource(store), [2], FitOptions(), spec, scheduler)
            with closing(Fitter(plan, SilentProgress())) as fitter:
                one, two = (fitter.score(heldout, centroids) for _ in range(2))
        assert one.counts.sum() == store.n_rows
        np.testing.assert_array_equal(one.sums, two.sums)
        assert set(read.values()) == {times}
