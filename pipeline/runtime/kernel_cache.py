"""Compiled kernels kept on disk by numba and Triton: where they lie, when others are compiled."""

import hashlib
import logging
import multiprocessing
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.runtime.memory import resident

if TYPE_CHECKING:
    from pipeline.runtime.progress import Progress

PACKAGE = Path(__file__).parents[1]  # whose sources are compiled
DECORATORS = b"engines.cpu.simd import"  # in files with kernels outside the engine's folder
UNUSED_SECONDS = 7 * 24 * 3600  # after which kernels of other sources are deleted
LOADED_BYTES = 64 << 20  # of all kernels, read from disk
COMPILED_BYTES = 16 << 20  # what LLVM holds for each kernel that it compiled, on average
LARGE_KERNEL_BYTES = 48 << 20  # and what it may take for one more


def code_bytes(kernels: Sequence[Any]) -> int:
    """What these kernels will take in this process, in bytes, at most."""
    missing = [kernel for kernel in kernels if not kernel.signatures]
    places = [(kernel.stats.cache_path, f"*.{kernel.__qualname__}-*.nbi") for kernel in missing]
    kept = [place is not None and any(Path(place).glob(name)) for place, name in places]
    return LOADED_BYTES * bool(missing) + COMPILED_BYTES * (len(kept) - sum(kept))


def kernel_sources(package: Path) -> list[Path]:
    """Files that kernels may be of: the CPU engine's, and those that import its decorators."""
    engine = package / "engines" / "cpu"
    files = sorted(package.rglob("*.py"))
    return [file for file in files if engine in file.parents or DECORATORS in file.read_bytes()]


@cache
def sources_digest() -> str:
    """Of all sources of kernels: they hold what they call in other files."""
    sources = [file.read_bytes() for file in kernel_sources(PACKAGE)]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:16]


@cache
def kernel_folder() -> Path | None:
    """Where compiled kernels of these very sources are kept; None: in memory alone.

    The first that can be written of NUMBA_CACHE_DIR, a folder beside the sources, the user's
    cache, and a temporary folder. Kernels of other sources that nobody used for a week go.
    """
    for place, usual in _places():
        folder = place / f"kernels-{sources_digest()}"
        is_new = not folder.exists()
        if _takes_files(folder):
            os.utime(folder)
            if is_new and not usual:
                _tell(f"no other folder can be written: compiled kernels go to {place}")
            _delete_unused(place)
            return folder
    _tell("no folder can be written: kernels are compiled anew in every process")
    return None


@cache
def place_triton_kernels() -> None:
    """Name a temporary folder to Triton (TRITON_CACHE_DIR) where its own cannot be written."""
    own = os.environ.get("TRITON_CACHE_DIR")
    if not own:
        home = os.environ.get("TRITON_HOME") or os.path.expanduser("~")
        own = os.path.join(home, ".triton", "cache")
        if not os.path.isabs(own):  # there may be no home, and it would write below this folder
            own = os.devnull
    if _takes_files(Path(own)):
        return
    with suppress(OSError):  # its own error says what is wrong where there is no place at all
        place = private_folder(_own_name())
        folder = place / "triton"
        is_new = not folder.exists()
        if _takes_files(folder):
            os.environ["TRITON_CACHE_DIR"] = str(folder)  # which it reads at each kernel
            if is_new:
                _tell(f"no other folder can be written: compiled kernels go to {place}")


def _takes_files(folder: Path) -> bool:
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        return True
    return False


@cache
def _tell(line: str) -> None:
    if multiprocessing.parent_process() is None:  # workers need not say it again
        logging.getLogger(__name__).warning(line)


def _own_name() -> str:
    return f"patchdict-{hashlib.sha256(bytes(PACKAGE)).hexdigest()[:16]}"


def _places() -> Iterator[tuple[Path, bool]]:
    """Where kernels may lie, and whether that needs no word."""
    named = _own_name()
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(given, named), True
    yield PACKAGE / "__pycache__", True
    user = os.path.expanduser(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    if os.path.isabs(user):  # there may be no home
        yield Path(user, named), True
    with suppress(OSError):
        yield private_folder(named), False


def private_folder(name: str) -> Path:
    """A temporary folder that no other user can fill, for what lies in it is run.

    Raises: OSError where there is none.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir(), f"{name}-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o022:
        raise PermissionError(f"{folder} is not of this user alone")
    return folder


def _delete_unused(place: Path) -> None:
    for folder in place.glob("kernels-*"):
        with suppress(FileNotFoundError):
            if folder.stat().st_mtime < time.time() - UNUSED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


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
                    often = "only a first run does" if kernel_folder() else "every run does here"
                    progress.note(f"compiling kernels, which {often}")
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


def end_before(room: int, status: int) -> None:
    """From now on this process ends where one more kernel may take more than so many bytes.

    What it compiled until then is on disk. status: that it ends with.
    """
    from numba.core import event

    class Limit(event.Listener):
        """Compilations lie within each other: what the outermost made is kept."""

        depth, kept = 0, 0

        def on_start(self, _: Any) -> None:
            if self.kept and self.depth == 0 and resident() + LARGE_KERNEL_BYTES > room:
                os._exit(status)
            self.depth += 1

        def on_end(self, _: Any) -> None:
            self.depth -= 1
            self.kept += self.depth == 0

    event.register("numba:compile", Limit())
