"""A device like Apple's MPS, for machines that have none: it refuses what MPS lacks.

`NarrowDevice()` is a dispatch mode. Under it, tensors on device "meta" hold values (of the CPU), as
those on a device of its own would: they cannot be mixed with host tensors, nor read by numpy.
`like_mps()` also has our rules for MPS hold for that device. Each operator that reaches them is
looked up in the table that torch ships (`torchgen/packaged/ATen/native/native_functions.yaml`);
operators made of others are taken apart first. Refused are:

- operators without an MPS implementation in that table;
- dtypes: float64 and complex, which Metal lacks; unsigned types of more than a byte, which MPS
  has since torch 2.9 only (pytorch issue 159076, mended by 159094), and we support 2.5;
- sums by index (`index_add`, `scatter_add`, accumulating `index_put`, `bincount`), which refused
  64 bits, rounded or were not atomic (161446, 158179, 88542, 184779, 176159): we add on the host;
- `nonzero`, boolean masks, `unique`, sorting and scans, wrong without a word for large tensors or
  some types (181867, 122916, 125100, 183885, 90635);
- matrix products into parts of a matrix (104832);
- copies that do not wait, which read memory that is already another's (139550, 189690), and copies
  between host and device that convert;
- a dimension beyond 2^31 − 1, a tensor beyond 2^32 bytes (158824, 143859).

What it cannot show: the rounding of Apple's matrix product and its speed; which index `min` gives
among equals (torch documents the first; MPS follows it explicitly since 187304 and 191100); that
what the table names works for all shapes and dtypes on all versions of macOS.
"""

import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml  # dask brings it
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pipeline.engines.device import tiled_search as tiles
from pipeline.runtime import devices

DEVICE = torch.device("meta")
DTYPES = {
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
}
NEVER = ("nonzero", "masked_select", "unique", "sort", "argsort", "topk", "median", "index_add")
NEVER += ("scatter_add", "scatter_reduce", "bincount", "histc", "put", "index_put", "cum", "logcum")
PRODUCTS = ("addmm", "mm", "bmm", "baddbmm", "matmul", "addmv", "mv")
ALIASES = ("alias", "detach", "lift_fresh")  # the same tensor again: nothing to take apart
COMPOSITE = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
MOST_BYTES, MOST_LENGTH = 1 << 32, (1 << 31) - 1


class Refused(Exception):  # noqa: N818 - no fault of the test's machinery
    """MPS lacks it."""


@cache
def operators() -> dict[str, dict[str, Any]]:
    """Entries of torch's table by name and overload; skips where this torch ships none."""
    torchgen = pytest.importorskip("torchgen", reason="this torch comes without torchgen")
    table = Path(torchgen.__file__).parent / "packaged/ATen/native/native_functions.yaml"
    if not table.is_file():
        pytest.skip(f"this torch comes without its table of operators, {table}")
    entries = yaml.load(table.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return {entry["func"].split("(")[0]: entry for entry in entries}


def dispatch_keys(name: str) -> set[str]:
    """Backends that implement an operator, by itself or through the one it delegates to."""
    entry = operators().get(name)
    if entry is None:
        raise Refused(f"{name} is not in torch's table of operators")
    keys = {key.strip() for line in entry.get("dispatch", {}) for key in line.split(",")}
    if "structured_delegate" in entry:
        keys |= dispatch_keys(entry["structured_delegate"])
    return keys or {"CompositeImplicitAutograd"}


class Memory:
    """Bytes of all tensors on the device: now, and at most since the last `reset`.

    What one operator needs inside is not seen.
    """

    def __init__(self) -> None:
        self._tensors: Counter[int] = Counter()  # of each storage
        self.now = self.peak = 0

    def reset(self) -> None:
        self.peak = self.now

    def take(self, tensor: "DeviceTensor") -> None:
        storage = tensor.values.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        self.now += 0 if self._tensors[address] else size
        self._tensors[address] += 1
        self.peak = max(self.peak, self.now)
        weakref.finalize(tensor, self._drop, address, size)

    def _drop(self, address: int, size: int) -> None:
        self._tensors[address] -= 1
        self.now -= 0 if self._tensors[address] else size


MEMORY = Memory()


class DeviceTensor(torch.Tensor):
    """A tensor on the device; `values` holds it on the host."""

    values: torch.Tensor

    @staticmethod
    def __new__(cls, values: torch.Tensor) -> "DeviceTensor":
        return torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            device=DEVICE,
        )

    def __init__(self, values: torch.Tensor) -> None:
        if values.dtype not in DTYPES:
            raise Refused(f"MPS has no {values.dtype}")
        if values.nbytes > MOST_BYTES or max(values.shape, default=0) > MOST_LENGTH:
            raise Refused(f"MPS takes no tensor of {tuple(values.shape)}")
        self.values = values
        MEMORY.take(self)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise Refused(f"{func} outside of the mode")


class NarrowDevice(TorchDispatchMode):
    """Runs operators on device tensors by the CPU, and refuses those that MPS lacks."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        wanted = kwargs.get("device")
        here = [tensor for tensor in given if isinstance(tensor, DeviceTensor)]
        if not here and (wanted is None or torch.device(wanted) != DEVICE):
            return func(*args, **kwargs)  # the host's
        name = func.name().removeprefix("aten::").removesuffix(".default")
        if name in ("_to_copy", "copy_"):
            return self._copied(func, given, args, kwargs)
        hosts = [tensor for tensor in given if not isinstance(tensor, DeviceTensor)]
        if any(tensor.device == DEVICE for tensor in hosts):
            raise RuntimeError(f"a tensor without values came to {name}: made outside of the mode?")
        if any(tensor.dim() for tensor in hosts):
            raise Refused(f"{name} of tensors on the device and on the host")
        keys = dispatch_keys(name)
        if name not in ALIASES and "MPS" not in keys:
            return self._taken_apart(func, name, keys, args, kwargs)
        check(name, here, args)
        return tree_map_only(torch.Tensor, DeviceTensor, self._on_host(func, args, kwargs))

    def _on_host(self, func: Any, args: Any, kwargs: Any) -> Any:
        if "device" in kwargs:
            kwargs = {**kwargs, "device": "cpu"}
        args, kwargs = tree_map_only(DeviceTensor, lambda t: t.values, (args, kwargs))
        return func(*args, **kwargs)

    def _taken_apart(self, func: Any, name: str, keys: set[str], args: Any, kwargs: Any) -> Any:
        with self:
            if "CompositeImplicitAutograd" in keys:
                return func.decompose(*args, **kwargs)
            for key in COMPOSITE:
                if key in keys:
                    return func._op_dk(getattr(torch._C.DispatchKey, key), *args, **kwargs)
        raise Refused(f"{name} has no implementation for MPS")

    def _copied(self, func: Any, given: list[torch.Tensor], args: Any, kwargs: Any) -> Any:
        if kwargs.get("non_blocking") or (len(args) > 2 and args[2]):
            raise Refused("a copy that does not wait")
        ends = [(isinstance(tensor, DeviceTensor), tensor.dtype) for tensor in given]
        if len(given) == 1:
            wanted = kwargs.get("device")
            there = ends[0][0] if wanted is None else torch.device(wanted) == DEVICE
            ends.append((there, kwargs.get("dtype") or given[0].dtype))
        if ends[0][0] != ends[1][0] and ends[0][1] != ends[1][1]:
            raise Refused("a copy between host and device that converts")
        there = ends[1 if func.name() == "aten::_to_copy" else 0][0]
        copied = self._on_host(func, args, kwargs)
        return DeviceTensor(copied) if there else copied


@contextmanager
def like_mps() -> Iterator[torch.device]:
    """The device, for which the rules of MPS hold, and its mode; of this thread alone."""
    with pytest.MonkeyPatch.context() as patch, NarrowDevice():
        patch.setattr(devices, "NARROW", {DEVICE.type})
        patch.setitem(tiles.TILE_BYTES, DEVICE.type, tiles.TILE_BYTES["mps"])
        yield DEVICE


def check(name: str, here: list[torch.Tensor], args: Any) -> None:
    """Refuse what MPS has but does wrongly or slowly; the module's docstring gives the sources."""
    stem = name.split(".")[0].strip("_")
    if stem.startswith(NEVER):
        raise Refused(f"{name}, which MPS has done wrongly")
    if stem == "index" and any(
        isinstance(leaf, torch.Tensor) and leaf.dtype in (torch.bool, torch.uint8)
        for leaf in tree_leaves(args[1])
    ):
        raise Refused(f"{name} by a mask")
    if stem in PRODUCTS and not all(t.is_contiguous() for t in here if t.dim() > 1):
        raise Refused(f"{name} with parts of a matrix")
