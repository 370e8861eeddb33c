"""The Triton kernels compiled for GPUs that are not there: what the interpreter cannot show."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.programs import run_python

pytest.importorskip("triton", reason="Triton is not installed")

# architecture -> shared memory that a program may have, in bytes (CUDA C++ Programming Guide)
SHARED = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10}
LARGE_TILES = 90  # whose registers the configurations were chosen for


def compiled(folder: Path, *asked: tuple[int, int, str, int, int]) -> list[dict[str, Any]]:
    """Where there is no home: nothing is taken from an earlier run, all is kept in `folder`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    env |= {"TMPDIR": str(folder), "HOME": os.devnull}
    done = run_python("-m", "tests.kernel_compiler", json.dumps(asked), env=env)
    assert done.returncode == 0, done.stderr
    (kept,) = folder.glob("patchdict-*/triton")
    assert any(kept.rglob("*.cubin"))
    assert (
        done.stderr.count(f"no other folder can be written: compiled kernels go to {kept.parent}")
        == 1
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arch", "more"),
    [
        *(pytest.param(arch, False, marks=pytest.mark.slow) for arch in SHARED if arch < 90),
        (90, False),
        pytest.param(90, True, marks=pytest.mark.slow),
    ],
)
def test_all_kernels_compile_and_fit(arch: int, more: bool, tmp_path: Path) -> None:
    shapes = [("uint8", 25, 1000), ("uint8", 147, 10000), ("uint8", 300, 100), ("float32", 25, 99)]
    if more:
        shapes += [
            ("uint8", 25, 100),  # every column competes
            ("uint8", 81, 1000),  # two parts, groups of four
            ("int8", 16, 1000),  # nothing is folded
            ("uint16", 200, 100),
        ]
    made = compiled(tmp_path, *((arch, SHARED[arch], *shape) for shape in shapes))
    assert {one["kernel"] for one in made} == {
        "nearest_short",
        "nearest_long",
        "add_few",
        "move_rows",
    }
    for one in made:
        assert one["shared"] <= SHARED[arch], one
        assert set(one["anew"]) <= {"k_padded"}, one  # always a multiple of 32
        if arch == LARGE_TILES:
            assert one["stack"] == 0, one
            if one["kernel"].startswith("nearest"):
                assert one["products"] > 0, one
    if arch == LARGE_TILES:
        grouped = made[0]  # d = 25, K = 1000: groups are compared within a thread
        assert (grouped["kernel"], grouped["shuffles"]) == ("nearest_short", 0)
        # so that two programs share a multiprocessor of 65,536 registers and 228 KiB
        assert grouped["registers"] <= 128
        assert grouped["shared"] <= 113 << 10
