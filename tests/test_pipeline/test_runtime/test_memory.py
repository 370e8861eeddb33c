"""The memory cap: projected in-process, measured by the operating system in fresh processes."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import pipeline.runtime.memory
from pipeline.config import FitOptions
from pipeline.engines import EngineSpec
from pipeline.engines.cpu.engine import PrunedEngine
from pipeline.execution.scheduler import Scheduler
from pipeline.kmeans.plan import FitPlan
from pipeline.rows.source import ArraySource
from pipeline.runtime.devices import CPU
from pipeline.runtime.memory import SLACK_BYTES, check_budget, device_refusal
from storage import MemoryBudgetError, PatchStore
from storage.patch_spec import chunk_rows
from tests.linked_stores import linked_store, striped_images
from tests.process_trees import Ran, run_measured

MIB = 1 << 20

# Runs the command line, and tells what each step was projected to take.
RUN = """
import json, sys
from pipeline.extraction import build as extraction
from pipeline.kmeans import plan as fit
from pipeline.runtime import memory
projected, check = [], memory.check_budget
def note(step, needed, cap):
    projected.append(check(step, needed, cap))
    return projected[-1]
memory.check_budget = extraction.check_budget = fit.check_budget = note
from pipeline.command_line import group
group(sys.argv[1:], standalone_mode=False)
print(json.dumps(max(projected)))
"""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads the kernel's figures from /proc")


def test_the_projection_starts_from_what_is_resident() -> None:
    resident = pipeline.runtime.memory.resident()
    check_budget("step", 0, resident + SLACK_BYTES + 64 * MIB)
    with pytest.raises(MemoryBudgetError, match="step needs"):
        check_budget("step", 128 * MIB, resident + SLACK_BYTES + 64 * MIB)


def test_the_message_names_both_numbers_and_a_cap_that_would_do() -> None:
    with pytest.raises(MemoryBudgetError) as caught:
        check_budget("fitting", 10 << 30, 2 << 30)
    message = str(caught.value)
    assert "more than the cap of 2.0 GiB" in message
    enough = int(message.split("MEMORY=")[1].split("MiB")[0]) * MIB
    check_budget("fitting", 10 << 30, enough + 16 * MIB)


def test_the_number_of_rows_is_not_in_the_projection() -> None:
    small, large = (
        ArraySource(np.broadcast_to(np.zeros((1, 25), np.uint8), (n, 25))) for n in (10**8, 10**9)
    )
    full, nested = (FitOptions.checked(mode=mode) for mode in ("full", "nested"))

    def allocated(source: ArraySource, k: int, engine: EngineSpec, options: FitOptions) -> int:
        return FitPlan.make(source, [5, k], options, engine, Scheduler()).allocated()

    for name in ("torch", "pruned"):
        engine = EngineSpec.resolve(name, CPU, 25, small.dtype)
        for options in (full, nested):
            one = allocated(small, 1000, engine, options)
            assert one == allocated(large, 1000, engine, options)
            assert allocated(small, 10_000, engine, options) > one
        without = allocated(small, 10_000, engine, full)
        assert without < allocated(small, 10_000, engine, nested)


def test_400_mib_will_do_for_10_000_centroids_and_less_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ArraySource(np.broadcast_to(np.zeros((1, 25), np.uint8), (20_074_704, 25)))
    engine = EngineSpec.resolve("auto", CPU, 25, rows.dtype)
    imports, limit = 128 * MIB, 400 * MIB  # of a process that fits and does nothing else
    monkeypatch.setattr(pipeline.runtime.memory, "resident", lambda: imports)
    monkeypatch.setattr("pipeline.kmeans.plan.code_bytes", lambda kernels: 64 * MIB)  # compiled
    monkeypatch.setattr("pipeline.kmeans.plan.keep_no_gaps", lambda: None)

    def made(memory: int) -> FitPlan:
        return FitPlan.make(
            rows, [100, 10_000], FitOptions(), engine, Scheduler(), scratch=tmp_path, memory=memory
        )

    tight, usual = made(limit), made(1 << 30)
    assert tight.projected is not None
    assert tight.projected <= limit
    assert (tight.tight, usual.tight) == (True, False)
    assert tight.engine.host_bytes(10_000, 1) < usual.engine.host_bytes(10_000, 1)
    assert tight.engine == usual.engine  # no result is another
    assert usual.blocks > tight.blocks == 1
    with pytest.raises(MemoryBudgetError):
        made(tight.allocated() + imports + SLACK_BYTES - 1)
    with pytest.raises(MemoryBudgetError):
        made(320 * MIB)


def test_shorter_lists_of_neighbours_give_the_same_labels() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 256, (20_000, 25)).astype(np.uint8)
    spec = EngineSpec.resolve("pruned", CPU, 25, rows.dtype)
    found = []
    for engine in (spec.make(), PrunedEngine(25, rows.dtype, list_entries=16 * 500)):
        engine.load(rows[:500].astype(np.float32))
        guess = engine.assign(rows)
        engine.load(rows[500:1000].astype(np.float32))
        found.append(engine.assign(rows, guess))
    assert np.array_equal(*found)


def fit_of(store: PatchStore, out: Path, k: int, mode: str, *options: str) -> list[str]:
    """Command line of a fit on a linked store under `out`."""
    images = ["--dataset", str(out / "stripes.npy"), "--patch", f"1x{store.dim}"]
    return ["fit", *images, "--out", str(out), "--k", str(k), "--mode", mode, *options]


def measured(arguments: list[str], cap: int = 4 << 30) -> tuple[int, int]:
    """Peak and projection of one command in a fresh process, which must not fail; bytes."""
    return figures(run_measured(["-c", RUN, *arguments, "--memory", str(cap)]))


def figures(ran: Ran) -> tuple[int, int]:
    assert ran.code == 0, ran.err
    return ran.peak, int(ran.out.splitlines()[-1])


def scattered(dim: int) -> np.ndarray:
    """Two chunks of rows: one with thousands that are near to nothing, then 20,000 groups.

    The former make the engine's lists as long as they can be, the latter keep long runs short.
    """
    rng, size = np.random.default_rng(0), chunk_rows(dim, 1)
    centres = rng.integers(40, 216, (20_000, dim)).astype(np.int16)
    rows = centres[rng.integers(len(centres), size=2 * size)]
    rows += rng.integers(-3, 4, rows.shape, np.int16)
    rows[:8192] = rng.integers(0, 256, (8192, dim))
    return rows.astype(np.uint8)


def long_store(out: Path, dim: int, n_rows: int) -> PatchStore:
    return linked_store(out, scattered(dim), n_rows, striped_images(out / "stripes.npy", dim))


@LINUX
def test_the_smallest_cap_that_is_named_will_do(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (4096, 256)).astype(np.uint8)
    images = striped_images(tmp_path / "stripes.npy", 256)
    store = linked_store(tmp_path, rows, 1 << 16, images)
    fit = fit_of(store, tmp_path, 3000, "full", "--max-iter", "1", "--init", "random")
    cap, refusals = 400, 0
    while (
        "more than the cap" in (ran := run_measured(["-c", RUN, *fit, "--memory", f"{cap}MiB"])).err
    ):
        message, refusals = ran.err.splitlines()[-1], refusals + 1
        assert f"more than the cap of {cap}.0 MiB" in message
        cap = int(message.split("MEMORY=")[1].split("MiB")[0])
    assert 1 <= refusals <= 2  # the patches, then the fit
    peak, projected = figures(ran)
    assert peak <= projected <= cap * MIB
    assert projected <= 1.6 * peak


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "dim", "mode", "passes", "options"),
    [
        (100, 25, "full", 1, ()),
        (100, 25, "nested", 12, ()),
        (100, 25, "minibatch", 1, ()),
        (100, 225, "full", 1, ()),
        (100, 225, "nested", 12, ("--breathing", "1")),
        (10_000, 25, "full", 1, ("--init", "random")),
        (10_000, 225, "full", 1, ("--init", "random")),
    ],
)
def test_the_peak_is_within_the_projection_whatever_the_number_of_rows(
    tmp_path: Path, k: int, dim: int, mode: str, passes: int, options: tuple[str, ...]
) -> None:
    few = long_store(tmp_path, dim, 1 << 17)
    # which compiles what is missing, in more memory than is projected for a fit
    measured(fit_of(few, tmp_path, k, mode, "--max-iter", str(passes), *options))
    peaks = []
    # A pass over 30 million rows would take half an hour for the largest.
    larger = 3_000_000 if k == 10_000 and dim > 100 else 30_000_000
    # A tenth of them, in ten times as many passes: a peak is the highest of as many blocks.
    for n, more in ((larger // 10 + 200_000, 10), (larger, 1)):
        out = tmp_path / str(n)
        out.mkdir()
        store, steps = long_store(out, dim, n), str(more * passes)
        fit = fit_of(store, out, k, mode, "--max-iter", steps, *options)
        peak, projected = measured(fit)
        print(f"K={k} d={dim} N={n} {mode}: {peak / MIB:.0f} of {projected / MIB:.0f} MiB")
        assert peak <= projected <= max(1.7 * peak, peak + 300 * MIB)  # the margin is absolute
        peaks.append(peak)
    assert peaks[1] < 1.05 * peaks[0]


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize("k", [100, 10_000])
def test_the_peak_of_all_processes_is_within_the_projection(tmp_path: Path, k: int) -> None:
    fit = fit_of(long_store(tmp_path, 25, 3_000_000), tmp_path, k, "full", "--init", "random")
    peak, projected = measured([*fit, "--max-iter", "1", "--scheduler", "processes:2"])
    assert peak <= projected <= 1.6 * peak


@LINUX
@pytest.mark.slow
def test_kernels_are_compiled_under_the_cap_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    fit = fit_of(long_store(tmp_path, 25, 1 << 20), tmp_path, 100, "full", "--max-iter", "1")
    for seed in "01":  # peaks of parent and child count, which are never at once
        peak, projected = measured([*fit, "--seed", seed], 432 * MIB)
        assert max(peak, projected) <= 432 * MIB


@LINUX
@pytest.mark.slow
def test_a_first_sweep_from_images_on_stays_below_400_mib(
    mnist_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kernels"))
    images = ["--dataset", "mnist", "--data", str(mnist_dir), "--sample", "2e5"]
    sweep = ["sweep", *images, "--out", str(tmp_path), "--k", "100", "--max-iter", "12"]
    ran = run_measured(["-m", "pipeline", *sweep, "--memory", "400MiB"])  # with its imports alone
    assert ran.code == 0, ran.err
    assert ran.peak <= 400 * MIB


@LINUX
@pytest.mark.slow
def test_an_extraction_stays_within_its_projection_and_gives_back(
    mnist_dir: Path, tmp_path: Path
) -> None:
    mnist = ["--dataset", "mnist", "--data", str(mnist_dir), "--out", str(tmp_path)]
    for options in ([], ["--patch", "7", "--scheduler", "processes:2"]):
        peak, projected = measured(["extract", *mnist, *options])
        assert peak <= projected <= 1.6 * peak
    fit = ["fit", *mnist, "--k", "100", "--mode", "full", "--max-iter", "1"]
    measured(fit)  # which compiles what is missing
    reused, _ = measured([*fit, "--seed", "1"])  # of the store that the first extraction left
    shutil.rmtree(tmp_path / "patches")
    fresh, _ = measured([*fit, "--seed", "2"])
    assert fresh - reused < 64 * MIB


@LINUX
@pytest.mark.slow
def test_a_sweep_runs_under_a_hard_limit_of_the_cap_and_its_imports(tmp_path: Path) -> None:
    store, cap = long_store(tmp_path, 25, 3_000_000), 1 << 30
    imports = "import pipeline.k_sweep, pipeline.engines, sklearn.datasets, pipeline.runtime.memory"
    status = "print([x for x in open('/proc/self/status') if 'VmPeak' in x][0])"
    taken = run_measured(["-c", f"{imports}; {status}"]).out.split()
    limit = int(taken[taken.index("VmPeak:") + 1]) * 1024 + cap
    bounded = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({limit}, {limit}))\n{RUN}"
    sweep = fit_of(store, tmp_path, 1000, "nested", "--max-iter", "14", "--breathing", "1")
    measured(sweep)  # which compiles what is missing
    ran = run_measured(["-c", bounded, *sweep, "--seed", "1", "--memory", str(cap)])
    assert ran.code == 0, ran.err
    assert ran.peak <= int(ran.out.splitlines()[-1]) <= cap


@pytest.mark.parametrize(
    ("needed", "cap", "words"),
    [
        (3 << 30, 1 << 30, ("3.0 GiB", "1.0 GiB")),
        ((1 << 30) + (9 << 20), 1 << 30, ("1,033 MiB", "1,024 MiB")),
        ((1 << 30) + 7, 1 << 30, ("1,073,741,831 bytes", "1,073,741,824 bytes")),
    ],
)
def test_a_refusal_shows_which_number_is_larger(
    needed: int, cap: int, words: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.runtime.memory, "resident", lambda: 0)
    monkeypatch.setattr(pipeline.runtime.memory, "SLACK_BYTES", 0)
    with pytest.raises(MemoryBudgetError) as caught:
        check_budget("a step", needed, cap)
    assert f"needs {words[0]} of memory, more than the cap of {words[1]}:" in str(caught.value)
    refusal = str(device_refusal("a step", needed, cap))
    assert f"needs {words[0]} of device memory, more than the cap of {words[1]}:" in refusal
