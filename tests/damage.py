"""Ways to break files, for tests."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from storage import IntegrityError, PatchStore


def files_of(folder: Path) -> dict[str, bytes]:
    """Content of all files under a folder, by path within it."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def chunk_file(store: PatchStore, index: int) -> Path:
    """The file of a chunk of patches."""
    return store.path / store.chunk_key(index)


def restore(path: Path, content: bytes) -> None:
    """Give a file its content back, whatever became of it."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def flip_bit(path: Path, bit: int) -> None:
    """Flip one bit in place; once more mends it."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def unnoticed(path: Path, step: int, notices: Callable[[], bool]) -> list[str]:
    """Flips of every so many bits of a file, and cuts by as many bytes, that nobody notices."""
    whole, missed = path.read_bytes(), []
    for bit in range(0, 8 * len(whole), step):
        flip_bit(path, bit)
        if not notices():
            missed.append(f"{path}: bit {bit}")
        flip_bit(path, bit)
    for length in range(0, len(whole), step):
        path.write_bytes(whole[:length])
        if not notices():
            missed.append(f"{path}: cut to {length}")
    path.write_bytes(whole)
    return missed


def bits_of(path: Path) -> int:
    """Number of bits in a file."""
    return path.stat().st_size * 8


def _flip_any(path: Path, rng: np.random.Generator) -> None:
    flip_bit(path, int(rng.integers(bits_of(path))))


def _truncate(path: Path, rng: np.random.Generator) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: int(rng.integers(1, len(whole)))])


def _empty(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(b"")


def _remove(path: Path, rng: np.random.Generator) -> None:
    path.unlink()


def _lengthen(path: Path, rng: np.random.Generator) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def _zero(path: Path, rng: np.random.Generator) -> None:
    """As a file system may leave what a power cut caught: the length without the bytes."""
    path.write_bytes(bytes(path.stat().st_size))


def _make_unreadable(path: Path, rng: np.random.Generator) -> None:
    """An error of the system's own, as a bad sector gives."""
    path.unlink()
    path.symlink_to(path)


DAMAGES: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "flipped": _flip_any,
    "truncated": _truncate,
    "empty": _empty,
    "missing": _remove,
    "lengthened": _lengthen,
    "zeroed": _zero,
    "unreadable": _make_unreadable,
}


def refuses(read: Callable[[Path], object], path: Path) -> bool:
    """Whether a reader says in one line that what lies there is damaged."""
    try:
        read(path)
    except IntegrityError as error:
        return str(path) in str(error) and "\n" not in str(error)
    return False
