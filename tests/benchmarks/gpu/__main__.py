"""`make bench-gpu`: each part in a process of its own, so that none can take the others along.

A GPU that went wrong in one process is whole again in the next.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from tests.benchmarks.gpu import adding, ceilings, exactness, rates, tuning
from tests.benchmarks.gpu.ceilings import Ceilings
from tests.benchmarks.gpu.settings import NOT_QUICK, Settings, arguments, parser, settings_of
from tests.benchmarks.tables import show

Tables = Iterable[tuple[str, list[dict[str, str]]]]  # titles and rows, as they are ready


def _machine(settings: Settings, _: Path) -> Tables:
    yield "Machine", ceilings.machine(settings)


def _ceilings(settings: Settings, shared: Path) -> Tables:
    yield "Ceilings, measured in this run", ceilings.table(_known(settings, shared))


def _correctness(settings: Settings, _: Path) -> Tables:
    yield "Correctness against float64", exactness.measure(settings)


def _rates(settings: Settings, shared: Path) -> Tables:
    yield from rates.measure(settings, _known(settings, shared)).items()


def _sums(settings: Settings, shared: Path) -> Tables:
    yield "Sums", adding.measure(settings, _known(settings, shared))


def _streaming(settings: Settings, shared: Path) -> Tables:
    from tests.benchmarks.gpu import streamed  # needs zarr and dask

    yield from streamed.measure(settings, shared)


def _study(settings: Settings, shared: Path) -> Tables:
    from tests.benchmarks.gpu import study  # needs zarr and dask

    yield from study.measure(settings, shared)


def _nested(settings: Settings, shared: Path) -> Tables:
    from tests.benchmarks.gpu import study  # needs zarr and dask

    yield from study.nested(settings, shared)


def _tuning(settings: Settings, _: Path) -> Tables:
    yield "Launches of the fused kernel", tuning.measure(settings)


PARTS: dict[str, Callable[[Settings, Path], Tables]] = {
    "machine": _machine,
    "ceilings": _ceilings,
    "correctness": _correctness,
    "rates": _rates,
    "sums": _sums,
    "streaming": _streaming,
    "study": _study,
    "nested": _nested,
    "tuning": _tuning,
}


def _known(settings: Settings, shared: Path) -> Ceilings:
    """Those of a part before, or measured now."""
    file = shared / "ceilings.json"
    found = Ceilings.read(file)
    if found is None:
        found = ceilings.measure(settings)
        found.write(file)
    return found


def main() -> int:
    """Returns: the exit code; 0 also where there is no CUDA GPU, or a part failed and said why."""
    options = parser().parse_args()
    settings = settings_of(options)
    usual = [name for name in PARTS if not (options.quick and name in NOT_QUICK)]
    wanted = usual if options.only is None else options.only.split(",")
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        print(f"no part {', '.join(unknown)}: use {', '.join(PARTS)}", file=sys.stderr)
        return 2
    if settings.device.startswith("cuda") and not torch.cuda.is_available():
        print(f"no CUDA GPU: torch {torch.__version__} finds none; nothing is measured")
        return 0
    if options.part is not None:
        return run_part(options.part, settings, options.shared)
    run_all(options, [name for name in PARTS if name in wanted], settings.seconds)
    return 0


def run_part(name: str, settings: Settings, shared: Path) -> int:
    """Print a part's tables, or one line that says what went wrong.

    shared: folder for what parts have in common.
    """
    started = time.monotonic()
    try:
        for title, rows in PARTS[name](settings, shared):
            show(title, rows)
    except Exception as error:  # the other parts go on
        print(f"\n{name}: failed: {type(error).__name__}: {_first_line(error)}", flush=True)
        if os.environ.get("TRACEBACK"):
            raise
        return 1
    print(f"\n{name}: {time.monotonic() - started:.1f} s", flush=True)
    return 0


def run_all(options: argparse.Namespace, parts: list[str], limit: float) -> None:
    """Each part in a process of its own, in order, as long as there is time."""
    until = time.monotonic() + limit
    with tempfile.TemporaryDirectory() as shared:
        for name in parts:
            left = until - time.monotonic()
            if left < 1:
                print(f"\n{name}: no time left of {limit:.0f} s (--seconds)", flush=True)
                continue
            command = [sys.executable, "-m", "tests.benchmarks.gpu", *arguments(options)]
            try:
                done = subprocess.run(
                    [*command, "--part", name, "--shared", shared], check=False, timeout=left
                )
            except subprocess.TimeoutExpired:
                print(f"\n{name}: stopped, no time left of {limit:.0f} s (--seconds)", flush=True)
                continue
            if done.returncode < 0:
                print(f"\n{name}: failed: its process was ended by signal {-done.returncode}")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0]


if __name__ == "__main__":
    sys.exit(main())
