"""A run that is broken off at its third chunk."""

from typing import Any

import pytest


class AtThirdChunk:
    """Stands for a function that writes chunks, and ends the run at the third, until told else.

    Attributes:
        written: number, or place, of each chunk that was written.
        goes_on: whether all are written.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> None:
        self._write, self.written, self.goes_on = getattr(module, name), list[Any](), False
        monkeypatch.setattr(module, name, self)

    def __call__(self, staging: Any, chunk: Any, *more: Any) -> None:
        if len(self.written) >= 2 and not self.goes_on:
            raise KeyboardInterrupt
        self.written.append(chunk)
        self._write(staging, chunk, *more)
