"""Whole sweeps whose rows lie on a device: the dictionaries are those of the CPU."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline import SweepOptions, sweep
from pipeline.engines.device.engine import DeviceEngine
from pipeline.kmeans import checkpoint
from pipeline.rows.source import StoreSource
from storage import DeviceError, open_dictionaries, open_patches
from tests.device_kernels import PlainKernels
from tests.device_sweeps import (
    N_ROWS,
    budget_for,
    cut_small,
    own_kernels,
    take_kernels,
    write_images,
)
from tests.notes import Notes
from tests.stored_numbers import numbers_of
from tests.test_pipeline.test_kmeans.test_resuming import broken_sweeps

MODES: dict[str, dict[str, Any]] = {
    "nested": {"mode": "nested", "k": "4,9", "breathing": 1, "max_iter": 8},
    "full": {"mode": "full", "k": "4,9,14", "max_iter": 2},
    "minibatch": {"mode": "minibatch", "k": "4,9", "max_iter": 2, "tol": 0, "batch_size": 200},
}
# A little less than half: what stays ends before the second prefix does.
SHARES = {"all": 1.0, "half": 0.49, "none": 0.0}
PREFIXES = (360, 720)  # of nested, at whose ends a chunk is cut
CASES = [
    *(("plain", mode, share, "uint8") for mode in MODES for share in SHARES),
    *(("torch", mode, share, "uint8") for mode in ("nested", "full") for share in SHARES),
    *(
        (kernels, "full", "half", t)
        for kernels in ("plain", "torch")
        for t in ("uint16", "float32")
    ),
    ("fused", "full", "half", "uint8"),  # its whole fits: test_fused_engine.py
]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    cut_small(monkeypatch)
    with own_kernels():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def options(folder: Path, out: Path, dtype: str = "uint8", **fields: Any) -> SweepOptions:
    dataset = str(write_images(folder, dtype))
    return SweepOptions.checked(dataset=dataset, patch="3", out=out, **fields)


@pytest.fixture(scope="module")
def of_cpu(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], dict[str, Any]]:
    """By mode and type what the torch engine of the CPU stores."""
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def learned(mode: str, dtype: str) -> dict[str, Any]:
        if (mode, dtype) not in found:
            fields = MODES[mode] | {"engine": "torch", "device": "cpu"}
            out = tmp_path_factory.mktemp(mode)
            result = sweep(options(folder, out, dtype, **fields))
            found[mode, dtype] = numbers_of(result["experiment"])
        return found[mode, dtype]

    return learned


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often the passes of device engines read each chunk of a patch store."""
    counted, passing = Counter[int](), 0
    run_pass, read_block = DeviceEngine.run_pass, StoreSource.read_block

    def noting(self: DeviceEngine, *rest: Any, **more: Any) -> Any:
        nonlocal passing
        passing += 1
        try:
            return run_pass(self, *rest, **more)
        finally:
            passing -= 1

    def counting(self: StoreSource, index: int) -> Any:
        counted[index] += passing
        return read_block(self, index)

    monkeypatch.setattr(DeviceEngine, "run_pass", noting)
    monkeypatch.setattr(StoreSource, "read_block", counting)
    return counted


def stripped(numbers: dict[str, Any]) -> dict[str, Any]:
    """Without the record of what computed them."""
    return {
        name: {key: value for key, value in node.items() if key not in ("engine", "device")}
        for name, node in numbers.items()
    }


@pytest.mark.parametrize(("kernels", "mode", "share", "dtype"), CASES)
def test_dictionaries_are_those_of_the_cpu(
    kernels: str,
    mode: str,
    share: str,
    dtype: str,
    folder: Path,
    of_cpu: Callable[[str, str], dict[str, Any]],
    reads: Counter[int],
    tmp_path: Path,
) -> None:
    if kernels == "fused":
        pytest.importorskip("triton", reason="Triton is not installed")
    expected = of_cpu(mode, dtype)
    reads.clear()
    chosen = options(folder, tmp_path, dtype, **MODES[mode], **take_kernels(kernels))
    device = chosen.device
    budget = budget_for(SHARES[share], chosen, dtype, device)
    notes = Notes()
    result = sweep(chosen.model_copy(update={"device_memory": budget}), notes)
    found = numbers_of(result["experiment"])
    assert stripped(found) == stripped(expected)
    for name, node in found.items():
        assert expected[name]["engine"] == "torch"
        assert (node["engine"], node["device"][: len(device)]) == ("fused", device)
    block_rows = open_patches(result["store"]).chunk_rows
    told = next(line for line in notes.lines if line.startswith("device memory"))
    if mode == "minibatch":
        assert told.endswith("; mini-batches are sent, their rows do not stay")
        stays = 0
    elif share == "all":
        assert told.endswith("; all rows stay there")
        stays = N_ROWS
    else:
        stays = int(told.split("; ")[1].split()[0].replace(",", ""))
        assert stays == 0 if share == "none" else SHARES[share] * N_ROWS <= stays < N_ROWS
    # Rows stay from one K to the next: chunks of theirs are read once, and once more where a
    # prefix cut them; others by every pass that goes as far.
    tree = open_dictionaries(Path(result["experiment"]) / "dictionaries.zarr")
    seen = np.concatenate([node["rows"].to_numpy() for node in tree.children.values()])
    if mode == "minibatch":
        seen = np.repeat(N_ROWS, len(tree.children))  # the last pass of each; batches come anew
    cut = PREFIXES if mode == "nested" else ()
    for block in range(-(-N_ROWS // block_rows)):
        start, stop = block * block_rows, min((block + 1) * block_rows, N_ROWS)
        once = 1 + sum(start < end < stop for end in cut)
        passes = int((seen > start).sum())
        assert reads[block] == (once if stop <= stays else passes)


def fail_again_and_again(chosen: SweepOptions, patch: pytest.MonkeyPatch) -> tuple[Any, int]:
    """Sweep until it is done on a device that fails; the result, and how often it failed."""
    rng, left, failed = np.random.default_rng(3), 0, 0
    label = PlainKernels.label

    def fails(self: PlainKernels, rows: torch.Tensor, labels: torch.Tensor) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")
        label(self, rows, labels)

    patch.setattr(PlainKernels, "label", fails)
    while True:
        left = int(rng.integers(1, 60))  # a pass takes 13 at most, so that all get on
        try:
            return sweep(chosen), failed
        except DeviceError:
            failed += 1


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("fault", ["broken off", "of the device"])
def test_a_sweep_that_is_broken_off_or_whose_device_fails_ends_with_the_same_bits(
    fault: str,
    mode: str,
    folder: Path,
    of_cpu: Callable[[str, str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = of_cpu(mode, "uint8")
    monkeypatch.setattr(checkpoint, "SHARE", 1.0)  # every pass is kept
    chosen = options(folder, tmp_path, **MODES[mode], **take_kernels("plain"))
    half = {"device_memory": budget_for(0.5, chosen, "uint8", "cpu")}
    chosen = chosen.model_copy(update=half)
    if fault == "broken off":
        result, times, _ = broken_sweeps(chosen, monkeypatch, seed=3)
    else:
        result, times = fail_again_and_again(chosen, monkeypatch)
    assert times >= 2
    assert stripped(numbers_of(result["experiment"])) == stripped(expected)
