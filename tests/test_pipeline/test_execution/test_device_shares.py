"""Workers that share a device; the CPU stands in for one, as no machine of tests has several."""

import socket
from collections.abc import Iterator

import numpy as np
import pytest
from distributed import Client

from pipeline.engines import EngineSpec
from pipeline.execution import device_shares
from pipeline.execution.blocks import SchedulerOfClient
from pipeline.execution.device_shares import device_share
from pipeline.runtime.devices import CPU
from pipeline.runtime.progress import SilentProgress
from storage import MemoryBudgetError
from tests.device_kernels import PlainKernels
from tests.device_sweeps import own_kernels, take_fused
from tests.notes import Notes
from tests.test_pipeline.test_execution.clusters import two_workers_here

MIB = 1 << 20


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Of two workers, which are threads of this process."""
    with two_workers_here(1, set_as_default=False) as client:
        yield client


def test_workers_of_one_device_share_its_memory(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes, rows = Notes(), (25, np.dtype(np.uint8))
    with own_kernels(), SchedulerOfClient(client, 1 << 30, SilentProgress()) as scheduler:
        take_fused(PlainKernels)
        spec = EngineSpec.resolve("fused", CPU, *rows)
        assert device_share(scheduler, spec, 10, 512 * MIB, notes) == 256 * MIB
        assert notes.lines == [
            f"2 workers share cpu of {socket.gethostname()}: each takes 256.0 MiB of its memory at"
            " most; start one a device, by CUDA_VISIBLE_DEVICES"
        ]
        with pytest.raises(MemoryBudgetError, match=r"for each of 2 processes"):
            device_share(scheduler, spec, 1000, 1000, notes)
        notes.lines.clear()
        pruned = EngineSpec.resolve("pruned", CPU, *rows)
        assert device_share(scheduler, pruned, 10, 512 * MIB, notes) == 512 * MIB
        one_each = iter(range(2))
        monkeypatch.setattr(device_shares, "device_identity", lambda _: f"GPU {next(one_each)}")
        assert device_share(scheduler, spec, 10, 512 * MIB, notes) == 512 * MIB
        assert notes.lines == []
