"""Whole fits with the fused engine: on a GPU where there is one, else in Triton's interpreter."""

import subprocess

import numpy as np
import pytest
import torch

from pipeline import StreamingKMeans
from pipeline.engines import EngineSpec
from pipeline.engines.device.engine import DeviceEngine
from pipeline.runtime.devices import CPU, Device
from storage import DeviceError, InputError, MemoryBudgetError

fused_sums = pytest.importorskip(
    "pipeline.engines.device.fused_sums", reason="Triton is not installed"
)
PTXASError = pytest.importorskip("triton.runtime.errors").PTXASError

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"


def clumps(dtype: str) -> np.ndarray:
    """Rows around a few centres, (1000, 25)."""
    rng = np.random.default_rng(4)
    centres = rng.integers(20, 230, (12, 25))
    rows = centres[rng.integers(12, size=1000)] + rng.integers(-20, 20, (1000, 25))
    return rows.astype(dtype)


# Each mode and each type once: what differs by type lies in the kernels, by mode above them.
QUICK = {("nested", "uint8"), ("full", "uint16"), ("minibatch", "float32")}


@pytest.mark.parametrize(
    ("mode", "dtype"),
    [
        pytest.param(mode, dtype, marks=[] if (mode, dtype) in QUICK else pytest.mark.slow)
        for mode in ("full", "nested", "minibatch")
        for dtype in ("uint8", "uint16", "float32")
    ],
)
def test_a_fit_ends_where_the_reference_does(mode: str, dtype: str) -> None:
    rows = clumps(dtype)
    fits = {
        engine: StreamingKMeans(
            12, mode=mode, max_iter=4, engine=engine, device=device, random_state=3, batch_size=230
        ).fit(rows)
        for engine, device in (("torch", "cpu"), ("fused", DEVICE))
    }
    fused, torch_fit = fits["fused"], fits["torch"]
    np.testing.assert_array_equal(fused.labels_, torch_fit.labels_)
    np.testing.assert_array_equal(fused.counts_, torch_fit.counts_)
    if dtype == "float32" and CUDA:  # added in another order there
        np.testing.assert_allclose(fused.cluster_centers_, torch_fit.cluster_centers_, rtol=1e-6)
    else:
        np.testing.assert_array_equal(fused.cluster_centers_, torch_fit.cluster_centers_)
    assert fused.inertia_ == pytest.approx(torch_fit.inertia_, rel=1e-9)
    np.testing.assert_array_equal(fused.predict(rows), fused.labels_)


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (RuntimeError("Failed to find C compiler.\nPlease"), "find C compiler.$"),
        (subprocess.CalledProcessError(1, "gcc"), "'gcc' returned non-zero"),
        (PTXASError("too new"), "too new"),
        (None, r"give \[0, 0, 0\] for 7, 1 and 49"),
    ],
)
def test_what_triton_cannot_do_here_is_said(
    raised: Exception | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def move(*_: object, **__: object) -> None:
        if raised is not None:
            raise raised

    device = Device(DEVICE)
    assert fused_sums.triton_problem(device.torch) == ""
    fused_sums.triton_problem.cache_clear()
    monkeypatch.setattr(fused_sums.FusedSums, "move", move)
    with pytest.raises(InputError, match=r"cannot be used, as Triton.*" + words.rstrip("$")):
        EngineSpec.resolve("fused", device, 3, np.dtype("u1")).make()
    fused_sums.triton_problem.cache_clear()


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), MemoryBudgetError),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), DeviceError),
    ],
)
def test_a_device_that_fails_is_no_fault_of_triton(
    raised: Exception, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def move(*_: object, **__: object) -> None:
        raise raised

    fused_sums.triton_problem.cache_clear()
    monkeypatch.setattr(fused_sums.FusedSums, "move", move)
    with pytest.raises(kind):
        EngineSpec.resolve("fused", Device(DEVICE), 3, np.dtype("u1")).make()


@pytest.mark.skipif(CUDA, reason="there is a GPU, on which the engine runs")
def test_without_a_gpu_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(EngineSpec.resolve("fused", CPU, 3, np.dtype("u1")).make(), DeviceEngine)
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(InputError, match="it runs on cuda"):
        EngineSpec.resolve("fused", CPU, 3, np.dtype("u1")).make()
