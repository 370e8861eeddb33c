"""Compiles what the fused engine would launch on a GPU that is not there; run as a program.

Prints one JSON object for each launch: kernel, arch, shared (bytes), registers, stack (bytes that
spilled), products (how many of the warpgroup's), shuffles (in the loop with the products), anew
(numbers of which some values make Triton compile it once more).
"""

import json
import re
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from pipeline.engines.device import fused_programs, fused_sum_programs, fused_sums
from pipeline.engines.device import fused_search as fused

LAUNCHED_BY = {
    "nearest_short": fused,
    "nearest_long": fused,
    "add_few": fused_sums,
    "move_rows": fused_sums,
}
TYPES = {
    torch.uint8: "*u8",
    torch.int8: "*i8",
    torch.uint16: "*u16",
    torch.float16: "*fp16",
    torch.float32: "*fp32",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
OPTIONS = ("num_warps", "num_stages")


class Compiling:
    """Stands for a kernel: is called as one, and compiles it for the arguments."""

    def __init__(self, kernel: Any, arch: int) -> None:
        self.kernel, self.arch = kernel, arch

    def __getitem__(self, grid: Any) -> "Compiling":
        return self

    def __call__(self, *args: Any, **constants: Any) -> None:
        options = {name: constants.pop(name) for name in OPTIONS if name in constants}
        names = self.kernel.arg_names
        free = {param.name for param in self.kernel.params if param.do_not_specialize}
        signature, aligned, anew = {}, {}, []
        for place, (name, value) in enumerate(zip(names, args, strict=False)):
            tensor = isinstance(value, torch.Tensor)
            if isinstance(value, float):
                signature[name] = "fp32"
                continue
            signature[name] = TYPES[value.dtype] if tensor else "i32"
            if not tensor and name not in free:
                anew.append(name)
            if tensor or (name not in free and value % 16 == 0):
                aligned[(place,)] = [["tt.divisibility", 16]]
        signature |= dict.fromkeys(constants, "constexpr")
        source = ASTSource(
            fn=self.kernel,
            signature={name: signature[name] for name in names},
            constexprs={(names.index(name),): value for name, value in constants.items()},
            attrs=aligned,
        )
        made = triton.compile(source, target=GPUTarget("cuda", self.arch, 32), options=options)
        used = resources(made.asm["cubin"])
        loop = product_loop(made.asm["ptx"])
        print(
            json.dumps(
                {
                    "kernel": self.kernel.fn.__name__,
                    "arch": self.arch,
                    "shared": made.metadata.shared,
                    "registers": used[0],
                    "stack": used[1],
                    "products": loop.count("wgmma.mma_async"),
                    "shuffles": loop.count("shfl.sync"),
                    "anew": anew,
                }
            )
        )


def resources(binary: bytes) -> tuple[int, int]:
    """Registers of a thread, and bytes that did not fit into them."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        tool = triton.knobs.nvidia.cuobjdump.path
        told = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        )
    found = re.search(r"REG:(\d+) STACK:(\d+)", told.stdout)
    assert found is not None, told.stdout
    return int(found[1]), int(found[2])


def product_loop(ptx: str) -> str:
    """The part of a program between a label and the branch back to it that has the products."""
    for label in re.finditer(r"^(\$L__BB\d+_\d+):", ptx, re.MULTILINE):
        back = re.search(rf"bra\S*\s+{re.escape(label[1])};", ptx[label.end() :])
        if back and "mma" in ptx[label.end() : label.end() + back.start()]:
            return ptx[label.end() : label.end() + back.start()]
    return ""


def launch(arch: int, shared: int, dtype: str, dim: int, k: int) -> None:
    """What a pass over some rows launches on a GPU of this architecture and shared memory."""
    for name, module in LAUNCHED_BY.items():
        programs = fused_programs if module is fused else fused_sum_programs
        setattr(module, name, Compiling(getattr(programs, name), arch))
    kernels = fused.FusedKernels(torch.device("cpu"), dim, np.dtype(dtype))
    kernels._shared, kernels._capability = shared, arch // 10
    kernels.load(np.ones((k, dim), np.float32))
    rows = torch.from_numpy(np.ones((7, dim), dtype))
    labels = torch.zeros(7, dtype=torch.int32)
    kernels.label(rows, labels)
    if np.dtype(dtype).itemsize == 1:
        sums = kernels.sums(k)
        sums.add(rows, labels)
        sums.move(rows, labels, labels)


if __name__ == "__main__":
    for asked in json.loads(sys.argv[1]):
        launch(*asked)
