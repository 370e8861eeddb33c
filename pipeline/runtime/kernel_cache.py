"""Compiled kernels kept on disk by numba: when they are too old, and when others are compiled."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.runtime.progress import Progress

LOADED_BYTES = 64 << 20  # of all kernels, read from disk
COMPILED_BYTES = 16 << 20  # what LLVM holds for each kernel that it compiled, on average


def code_bytes(kernels: Sequence[Any]) -> int:
    """What these kernels will take in this process, in bytes, at most."""
    missing = [kernel for kernel in kernels if not kernel.signatures]
    kept = (Path(k.stats.cache_path).glob(f"*.{k.__qualname__}-*.nbi") for k in missing)
    compiled = sum(not any(files) for files in kept)
    return LOADED_BYTES * bool(missing) + COMPILED_BYTES * compiled


def drop_stale(folder: Path) -> None:
    """Delete kernels compiled before any source below the folder changed.

    Numba looks at the file of a kernel alone, but kernels hold what they call in other files.
    Another process may delete the same kernels at the same time. Assumes numba's own place for
    them, `__pycache__` beside the sources.
    """
    files = [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    times = {file: _changed(file) for file in files}
    newest = max(times[file] for file in files if file.suffix == ".py")
    for file in files:
        if file.suffix in (".nbi", ".nbc") and times[file] < newest:
            with suppress(FileNotFoundError):
                file.unlink()


def _changed(file: Path) -> float:
    """When a file was changed, in seconds; 0 where it is gone."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextmanager
def compilation_told(progress: "Progress") -> Iterator[None]:
    """Says when kernels are compiled in here, and how long that took; most runs only load them."""
    from numba.core import event  # numba takes a second to load, and its kernels have done so

    class Teller(event.Listener):
        """Compilations lie within each other: the outermost counts."""

        depth, began, seconds = 0, 0.0, 0.0

        def on_start(self, _: Any) -> None:
            if self.depth == 0:
                self.began = time.perf_counter()
                if self.seconds == 0:
                    progress.note("compiling kernels, which only a first run does")
            self.depth += 1

        def on_end(self, _: Any) -> None:
            self.depth -= 1
            if self.depth == 0:
                self.seconds += time.perf_counter() - self.began

    teller = Teller()
    with event.install_listener("numba:compile", teller):
        yield
    if teller.seconds:
        progress.note(f"compiled kernels in {teller.seconds:.1f} s")
