"""`make bench-gpu` runs from end to end without a GPU, and sees what is wrong."""

import math
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.engines.device.dense_kernels import TorchKernels
from tests.benchmarks import tables
from tests.benchmarks.gpu import __main__ as program
from tests.benchmarks.gpu import adding, exactness, peers, rates, settings, streamed, study, tuning
from tests.benchmarks.gpu.ceilings import Ceilings
from tests.benchmarks.gpu.settings import Settings
from tests.oracles import squared_distances

ROOT = Path(__file__).parents[2]
TINY = Settings(
    device="cpu",
    kernels="torch",
    k=(3, 20),
    dims=(25, 7),
    rows=600,
    checked_rows=400,
    products=10**9,
    repeats=1,
    matrix=16,
    copied=1000,
    study_k=(3, 5),
    study_rows=2000,
    study_iterations=2,
    tuning_seconds=0,
    mnist=Path("/nowhere"),
)
FUSED = replace(TINY, kernels="fused", k=(3,), dims=(25,), rows=100, checked_rows=100)
CEILINGS = Ceilings(copy=1e9, host=1e9, half=1e9, single=1e9, tf32=1e9)
# what a machine with torch and Triton alone has not
ABSENT = ("zarr", "dask", "distributed", "pydantic", "xarray", "pooch", "numcodecs", "requests")
ABSENT += ("google_crc32c", "click", "scipy", "sklearn", "faiss", "threadpoolctl", "flash_kmeans")


def numbers(row: dict[str, str], *besides: str) -> list[float]:
    """Those that the cells begin with, but for some columns."""
    cells = [cell for name, cell in row.items() if name not in besides]
    return [float(cell.split()[0].replace(",", "")) for cell in cells if cell != "not installed"]


def the_table(found: Iterator[tuple[str, list[dict[str, str]]]]) -> list[dict[str, str]]:
    ((_, table),) = found
    return table


@pytest.mark.parametrize("given", [replace(TINY, k=(20,)), FUSED], ids=["torch", "fused"])
def test_rates_have_a_row_for_each_k_and_d(given: Settings) -> None:
    found = rates.measure(given, CEILINGS)
    assert len(found) == 3
    for table in found.values():
        pairs = [(row["d"], row["K"]) for row in table]
        assert pairs == [(str(d), str(k)) for d in given.dims for k in given.k]
        for row in table:
            assert all(math.isfinite(x) and x > 0 for x in numbers(row, "nearer ceiling"))
    for row in found["Assignment alone, million rows/s (ours is so many times faster)"]:
        assert row["flash-kmeans float32"] == "not installed"


@pytest.mark.parametrize("given", [TINY, FUSED], ids=["torch", "fused"])
def test_correctness_has_a_row_for_each_type_k_and_d(given: Settings) -> None:
    table = exactness.measure(given)
    assert len(table) == (3 + len(given.dims) - 1) * len(given.k)
    for row in table:
        assert row["labels as float64's"] == "100.00000 %"
        assert float(row["excess SSE"]) == 0
        assert row["sums and counts"] == ("exact" if "uint8" in row["rows"] else "–")
        assert row["doubled centroids"] == "lowest index"
        assert row["ties to the lowest"] == "64 of 64"


def test_a_wrong_label_is_seen() -> None:
    rows = torch.tensor([[0, 0], [10, 0], [0, 10]], dtype=torch.uint8)
    centroids = np.array([[0, 0], [10, 1]], np.float32)
    right = torch.tensor([0, 1, 0], dtype=torch.int32)
    assert exactness.compare(rows, centroids, right) == exactness.Agreement(1.0, 0.0)
    found = exactness.compare(rows, centroids, torch.tensor([0, 1, 1], dtype=torch.int32))
    # By hand: 0 + 1 + 100 where it is right, 0 + 1 + (100 + 81) where it is not.
    assert found == exactness.Agreement(2 / 3, (182 - 101) / 101)


def test_the_right_labels_are_the_oracle_s() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 4, (300, 3)).astype(np.uint8)  # full of ties
    centroids = (rng.integers(0, 8, (40, 3)) / 2).astype(np.float32)  # and of equals
    expected = squared_distances(rows, centroids).argmin(1)
    assert np.array_equal(exactness.exact_labels(torch.from_numpy(rows), centroids), expected)


def test_a_wrong_sum_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randint(0, 256, (50, 25), dtype=torch.uint8)
    labels = torch.randint(0, 3, (50,), dtype=torch.int32)
    assert exactness.sums_agree(TINY, rows, labels, 3, np.dtype(np.uint8)) == "exact"

    class Forgetful(TorchKernels):
        def totals(self, k: int):
            totals = super().totals(k)
            monkeypatch.setattr(totals, "move", lambda *_: None)
            return totals

    monkeypatch.setattr(
        exactness, "make_kernels", lambda _, dim, dtype: Forgetful(TINY.torch_device, dim, dtype)
    )
    found = exactness.sums_agree(TINY, rows, labels, 3, np.dtype(np.uint8))
    assert found == "WRONG: move"


def test_sums_have_a_row_for_each_k_and_d() -> None:
    table = adding.measure(TINY, CEILINGS)
    assert len(table) == 4
    assert all(math.isfinite(x) and x > 0 for row in table for x in numbers(row))


def test_so_many_labels_change() -> None:
    labels = torch.arange(10_000, dtype=torch.int32) % 7
    for share in (0.0, 0.05, 1.0):
        other = rates.changed(labels, 7, share)
        assert float((other != labels).float().mean()) == pytest.approx(share, abs=0.01)
        assert int(other.min()) >= 0
        assert int(other.max()) < 7


def test_the_floor_is_the_slower_of_the_two_ceilings() -> None:
    fast = replace(CEILINGS, copy=1e12)
    # Two products of 32 columns and 64 centroids, of which 25 and 3 are used.
    assert rates.issued(FUSED, 10, 3, 25) == 2 * 2 * 10 * 64 * 32
    assert rates.floor_seconds(FUSED, fast, 10, 3, 25) == (2 * 2 * 10 * 64 * 32 / 1e9, "products")
    slow = replace(CEILINGS, copy=1e3)
    assert rates.floor_seconds(FUSED, slow, 10, 3, 25) == (10 * 29 / 1e3, "copy")


def test_flash_kmeans_is_called_as_it_wants_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a stand-in with the signatures of version 0.3.1."""
    seen = []

    def euclid_assign_triton(x, centroids, x_sq, out=None, c_sq=None, *, use_heuristic=True):
        assert x.dtype == centroids.dtype
        assert x.shape[0] == centroids.shape[0] == 1
        assert x_sq.shape == x.shape[:2]
        assert torch.isfinite(x_sq).all()
        return torch.cdist(x.float(), centroids.float()).argmin(-1).int()

    def batch_kmeans_Euclid(  # noqa: N802, its name
        x, n_clusters, max_iters=100, tol=0.0, init_centroids=None, verbose=False
    ):
        assert init_centroids.shape == (1, n_clusters, x.shape[2])
        seen.append(max_iters)

    package = types.ModuleType("flash_kmeans")
    package.batch_kmeans_Euclid = batch_kmeans_Euclid
    inner = types.ModuleType("flash_kmeans.assign_euclid_triton")
    inner.euclid_assign_triton = euclid_assign_triton
    monkeypatch.setitem(sys.modules, "flash_kmeans", package)
    monkeypatch.setitem(sys.modules, "flash_kmeans.assign_euclid_triton", inner)
    rows = torch.randint(0, 256, (200, 81), dtype=torch.uint8)
    centroids = rows[:5].numpy().astype(np.float32)
    expected = squared_distances(rows.numpy(), centroids).argmin(1)
    for name in ("flash-kmeans float32", "flash-kmeans float16"):
        labels = peers.PEERS[name](rows, centroids).assign()[0]
        assert np.array_equal(labels, expected)
        assert isinstance(rates.peer_times(TINY, name, rows, centroids).iterate, float)
    assert set(seen) == {1, 1 + peers.ITERATIONS}


@pytest.mark.parametrize(
    "name", [name for name in peers.PEERS if "torch" in name or "TF32" in name]
)
def test_torch_peers_do_lloyd_steps(name: str) -> None:
    rows = torch.randint(0, 256, (200, 9), dtype=torch.uint8)
    centroids = rows[:5].numpy().astype(np.float32)
    peer = peers.PEERS[name](rows, centroids)
    expected = squared_distances(rows.numpy(), centroids).argmin(1)
    assert np.array_equal(peer.assign(), expected)
    means = [rows.numpy()[expected == j].mean(0) for j in range(5)]
    np.testing.assert_allclose(peer.iterate(1), means, rtol=1e-5)


def test_a_peer_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(rows: torch.Tensor, centroids: np.ndarray) -> peers.Peer:
        raise ValueError("no such tile\nand more")

    monkeypatch.setitem(peers.PEERS, "broken", broken)
    found = rates.peer_times(TINY, "broken", torch.zeros(3, 2), np.zeros((1, 2)))
    assert found == rates.Times(
        "failed: ValueError no such tile", "failed: ValueError no such tile"
    )


def test_launches_are_tuned_while_time_lasts() -> None:
    (usual,) = tuning.measure(FUSED)
    assert usual["times the usual"] == "1.00"
    (row, *others) = tuning.measure(replace(FUSED, tuning_seconds=2))
    assert int(row["launch"].split("; ")[1].split()[0]) >= len(others)
    assert others
    assert all(other["same labels"] == "100.0000 %" for other in others)


def test_streaming_has_a_row_for_each_way(tmp_path: Path) -> None:
    table = the_table(streamed.measure(TINY, tmp_path))
    ways = [row["rows"].partition(",")[0] for row in table]
    one = ["all come to stay", "all are there", "none stays", "DEVICE_MEMORY at its least"]
    assert ways == one * 2
    for row in table:
        assert all(math.isfinite(x) and x >= 0 for x in numbers(row, "rows"))
        stays = row["rows"] == "all are there"
        assert (float(row["read, s"]) == 0) == stays
        assert (float(row["copy, s"]) == 0) == stays


def test_the_study_has_a_row_for_each_k(tmp_path: Path) -> None:
    table = the_table(study.measure(TINY, tmp_path))
    assert [row["K"] for row in table] == ["3", "5", "all"]
    for row in table:
        assert all(math.isfinite(x) and x >= 0 for x in numbers(row, "K", "MSE"))
        assert float(row["assign"]) > 0
        assert float(row["update"]) > 0
    assert [row["passes"] for row in table] == ["3", "3", "6"]
    assert float(table[0]["MSE"]) > float(table[1]["MSE"])


def test_a_study_without_time_stops_after_one(tmp_path: Path) -> None:
    ((title, table),) = study.measure(replace(TINY, study_seconds=0), tmp_path)
    assert "2 dictionaries" in title
    assert "1 of them" in title
    assert [row["K"] for row in table] == ["3", "all"]


def test_the_default_sweep_is_timed(tmp_path: Path) -> None:
    table = the_table(study.nested(TINY, tmp_path))
    assert [row["K"] for row in table] == ["3", "5", "all"]
    assert float(table[-1]["seconds"]) > 0


def test_a_part_that_fails_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(*_: object) -> program.Tables:
        yield "Whole", [{"a": "1"}]
        raise RuntimeError("CUDA error: an illegal memory access\nand twenty lines more")

    monkeypatch.setitem(program.PARTS, "sums", broken)
    assert program.run_part("sums", TINY, tmp_path) == 1
    out = capsys.readouterr().out
    assert "### Whole" in out
    assert out.endswith("\nsums: failed: RuntimeError: CUDA error: an illegal memory access\n")
    assert program.run_part("machine", TINY, tmp_path) == 0


@pytest.mark.parametrize(
    ("end", "line"),
    [
        (lambda *_, **__: subprocess.CompletedProcess([], -11), "ended by signal 11"),
        (lambda *_, timeout, **__: sleep_for_ever(timeout), "stopped, no time left of 5 s"),
    ],
)
def test_a_process_that_dies_or_hangs_leaves_the_others(
    end: Callable[..., object],
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(subprocess, "run", end)
    program.run_all(settings.parser().parse_args([]), ["machine", "sums"], 5)
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.strip().startswith("machine: ")
    assert second.startswith("sums: ")
    assert line in first
    assert line in second


def test_no_part_begins_after_the_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    program.run_all(settings.parser().parse_args([]), ["machine"], 0)
    assert capsys.readouterr().out == "\nmachine: no time left of 0 s (--seconds)\n"


def test_parts_run_in_processes_of_their_own() -> None:
    command = "--device cpu --kernels torch --only ceilings,machine --matrix 16 --copied 1000"
    done = run(["-m", "tests.benchmarks.gpu", *command.split()])
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("### Machine") < done.stdout.index("### Ceilings")


def test_without_a_gpu_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert program.main() == 0
    assert capsys.readouterr().out.startswith("no CUDA GPU: torch ")


def test_an_unknown_part_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--only", "rates,speed"])
    assert program.main() == 2
    assert capsys.readouterr().err.startswith("no part speed: use machine, ceilings,")


def test_options_reach_the_processes_of_the_parts() -> None:
    options = settings.parser().parse_args(
        ["--quick", "--k", "7,8", "--rows", "9", "--mnist", "there"]
    )
    again = settings.parser().parse_args(settings.arguments(options))
    found = settings.settings_of(again)
    assert found == settings.settings_of(options)
    assert (found.k, found.rows, found.mnist) == ((7, 8), 9, Path("there"))
    assert found.matrix == settings.QUICK["matrix"]


def test_parts_without_a_store_need_no_more_than_torch() -> None:
    code = f"""
import sys
for name in {ABSENT!r}:
    sys.modules[name] = None
from dataclasses import replace
from pathlib import Path
import tempfile
from tests.benchmarks.gpu.__main__ import PARTS, run_part
from tests.benchmarks.gpu.settings import Settings
given = Settings(device="cpu", kernels="torch", k=(3,), dims=(25,), rows=90, checked_rows=90,
    repeats=1, matrix=8, copied=100, tuning_seconds=0)
with tempfile.TemporaryDirectory() as folder:
    print([run_part(name, given, Path(folder)) for name in PARTS])
import pipeline.engines.device.fused_search
"""
    done = run(["-c", code])
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[0, 0, 0, 0, 0, 1, 1, 1, 0]\n"), done.stdout


def test_numbers_have_three_digits() -> None:
    found = [tables.number(x) for x in (0, 0.00123456, 1.5, 45.678, 123.4, 12345.6)]
    assert found == ["0", "0.00123", "1.50", "45.7", "123", "12,346"]


def sleep_for_ever(timeout: float) -> None:
    raise subprocess.TimeoutExpired("a part", timeout)


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
