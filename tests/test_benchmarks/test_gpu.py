"""The GPU benchmark at small sizes on a CPU."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.benchmarks import gpu
from tests.benchmarks.gpu import Settings, main
from tests.benchmarks.tables import number
from tests.oracles import squared_distances

TINY = Settings(
    device="cpu", k=(3, 20), dims=(25, 9), rows=200, checked=150, repeats=1, matrix=16,
    study_k=(3, 5), study_passes=2, dataset="digits",
)  # fmt: skip
ROWS = torch.randint(0, 256, (200, 9), dtype=torch.uint8, generator=torch.manual_seed(0))
CENTROIDS = ROWS[:5].numpy().astype(np.float32)
NEAREST = squared_distances(ROWS.numpy(), CENTROIDS).argmin(1)


def numbers(row: dict[str, str], *besides: str) -> list[float]:
    cells = [cell for name, cell in row.items() if name not in besides and cell != "not installed"]
    return [float(cell.split()[0].replace(",", "")) for cell in cells]


def test_rates_have_a_row_for_each_k_and_d() -> None:
    for _, table in gpu.rates(TINY):
        pairs = [(row["d"], row["K"]) for row in table]
        assert pairs == [(str(d), str(k)) for d in TINY.dims for k in TINY.k]
        assert all(math.isfinite(x) and x > 0 for row in table for x in numbers(row))
        assert table[0]["flash-kmeans float32"] == "not installed"


def test_correctness_has_a_row_for_each_type_k_and_d() -> None:
    ((_, table),) = gpu.correctness(TINY)
    assert len(table) == 2 * len(TINY.dims) * len(TINY.k)
    for row in table:
        assert row["labels as float64's"] == "100.00000 %"
        assert float(row["excess SSE"]) == 0
        assert row["doubled centroids"] == "lowest index"


def test_a_wrong_label_is_seen() -> None:
    rows = torch.tensor([[0, 0], [10, 0], [0, 10]], dtype=torch.uint8)
    centroids = np.array([[0, 0], [10, 1]], np.float32)
    assert gpu.compare(rows, centroids, torch.tensor([0, 1, 0])) == (1.0, 0.0)
    # By hand: 0 + 1 + 100 where it is right, 0 + 1 + (100 + 81) where it is not.
    equal, excess = gpu.compare(rows, centroids, torch.tensor([0, 1, 1]))
    assert (equal, excess) == (2 / 3, pytest.approx((182 - 101) / 101))


def test_torch_does_lloyd_steps() -> None:
    assign, iterate = gpu.PEERS["torch"](ROWS, CENTROIDS)
    assert np.array_equal(assign(), NEAREST)
    means = [ROWS.numpy()[j == NEAREST].mean(0) for j in range(5)]
    np.testing.assert_allclose(iterate(1), means, rtol=1e-5)


def test_parts_fail_alone_and_options_reach_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(settings: Settings) -> None:
        assert (settings.k, settings.checked) == ((7, 8), gpu.QUICK["checked"])
        raise RuntimeError("CUDA error: an illegal memory access\nand twenty lines more")

    monkeypatch.setitem(gpu.PARTS, "rates", broken)
    small = ["--k", "7,8", "--matrix", "16", "--study-k", "3", "--study-passes", "1"]
    data = ["--dataset", "digits", "--data", str(tmp_path)]
    assert (
        main(["--quick", "--device", "cpu", "--only", "rates,ceilings,study", *small, *data]) == 0
    )
    out = capsys.readouterr().out
    assert "rates: failed: RuntimeError: CUDA error: an illegal memory access\n" in out
    assert out.index("rates: failed") < out.index("### Ceilings") < out.index("### The study")


def test_without_a_gpu_or_such_a_part_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("no CUDA GPU: torch ")
    assert main(["--only", "rates,speed"]) == 2
    assert capsys.readouterr().err.startswith("no part speed: use ceilings,")


def test_numbers_have_three_digits() -> None:
    found = [number(x) for x in (0, 0.00123456, 1.5, 45.678, 123.4, 12345.6)]
    assert found == ["0", "0.00123", "1.50", "45.7", "123", "12,346"]
