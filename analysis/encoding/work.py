"""What is made of images chunk by chunk, in any order, by any process: codes, or features."""

from typing import Any, Protocol

import numpy as np

from analysis.encoding.encoding import Encoding
from storage.codes.code_writer import Coordinates


class Work(Protocol):
    """An array of images that is made chunk by chunk: codes, or features.

    Attributes:
        name: of the array.
        shape, chunks, dtype: of the array; chunks: the lengths of one.
        coordinates, facts: of the array; facts: its attributes, as plain JSON.
        encoding: the images, and the dictionary.
        engine_bytes: what making them takes of each process, at most.
        task_bytes: what one chunk in work takes beside that, at most.
    """

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def chunks(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...
    @property
    def coordinates(self) -> Coordinates: ...
    @property
    def facts(self) -> dict[str, Any]: ...
    @property
    def encoding(self) -> Encoding: ...
    @property
    def engine_bytes(self) -> int: ...
    @property
    def task_bytes(self) -> int: ...

    def smaller(self) -> "Work | None":
        """The same with half as much in work at once; None where that is too little."""

    def made(self, place: tuple[slice, ...]) -> np.ndarray:
        """The values of a place."""


def place_of(work: Work, index: tuple[int, ...]) -> tuple[slice, ...]:
    """The place of a chunk."""
    return tuple(
        slice(at * size, min((at + 1) * size, length))
        for at, size, length in zip(index, work.chunks, work.shape, strict=True)
    )
