"""That the stand-in for MPS refuses what it claims to, and lets through what MPS has."""

from collections.abc import Callable, Iterator

import pytest
import torch

from tests.narrow_device import DEVICE, NarrowDevice, Refused


@pytest.fixture
def device() -> Iterator[torch.device]:
    with NarrowDevice():
        yield DEVICE


def ones(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype).to(DEVICE)


PLANTED: dict[str, tuple[Callable[[], object], str]] = {
    "float64 from the host": (lambda: ones(2, dtype=torch.float64), "no torch.float64"),
    "float64 made there": (lambda: torch.zeros(2, dtype=torch.float64, device=DEVICE), "float64"),
    "float64 inside": (lambda: ones(2).double(), "float64"),
    "float64 result": (lambda: ones(2).sum(dtype=torch.float64), "float64"),
    "complex": (lambda: torch.complex(ones(2), ones(2)), "complex"),
    "uint16": (lambda: torch.ones(2, dtype=torch.uint16).to(DEVICE), "uint16"),
    "no operator": (
        lambda: torch.segment_reduce(ones(4), "sum", lengths=ones(2, dtype=torch.int64)),
        "segment_reduce has no",
    ),
    "inside another operator": (lambda: torch.msort(ones(3)), "sort"),
    "index_add": (
        lambda: ones(2, 3).index_add_(0, ones(1, dtype=torch.int64), ones(1, 3)),
        "index_add_",
    ),
    "index_put": (
        lambda: ones(2).index_put_((ones(1, dtype=torch.int64),), ones(1), accumulate=True),
        "index_put",
    ),
    "bincount": (lambda: torch.bincount(ones(3, dtype=torch.int64)), "bincount"),
    "nonzero": (lambda: ones(3).nonzero(), "nonzero"),
    "mask": (lambda: ones(3)[ones(3) > 0], "mask|nonzero"),
    "sort": (lambda: torch.argsort(ones(3), stable=True), "sort"),
    "scan": (lambda: ones(3).cumsum(0), "cumsum"),
    "product into a part": (
        lambda: torch.mm(ones(2, 2), ones(2, 2), out=ones(2, 4)[:, :2]),
        "parts of a matrix",
    ),
    "host and device": (lambda: ones(2) + torch.ones(2), "on the host"),
    "no waiting": (lambda: torch.ones(2).to(DEVICE, non_blocking=True), "does not wait"),
    "no waiting, copy": (lambda: torch.ones(2).copy_(ones(2), non_blocking=True), "does not wait"),
    "converting copy": (lambda: ones(2).to("cpu", torch.float64), "converts"),
    "large": (lambda: torch.empty(MANY, dtype=torch.int64, device=DEVICE), "no tensor of"),
}
MANY = (1 << 29) + 1


@pytest.mark.usefixtures("device")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_violation_is_refused(name: str) -> None:
    violation, message = PLANTED[name]
    with pytest.raises(Refused, match=message):
        violation()


@pytest.mark.usefixtures("device")
def test_numpy_cannot_read_what_is_on_the_device() -> None:
    with pytest.raises(RuntimeError, match="numpy"):
        ones(2).numpy()


def test_what_mps_has_gives_the_values_of_the_cpu(device: torch.device) -> None:
    matrix = torch.arange(12, dtype=torch.float32).view(3, 4)
    there = matrix.to(device)
    assert there.device == device
    there[1:] += 1
    matrix[1:] += 1
    low, index = torch.min(there - there[:1], dim=1)
    assert low.cpu().tolist() == [0, 5, 9]
    assert index.cpu().tolist() == [0, 0, 0]


def test_the_host_may_do_anything(device: torch.device) -> None:
    host = ones(3).cpu().double()
    assert host.dtype == torch.float64
    assert torch.bincount(torch.ones(3, dtype=torch.int64)).tolist() == [0, 3]
    assert host.nonzero().numpy().ravel().tolist() == [0, 1, 2]
    assert torch.zeros(2, device=device).device == device
