"""Progress as an observer: the loops report, and print nothing themselves.

On a terminal a bar with rate and time left; otherwise a plain line every few seconds.
"""

import sys
from typing import Any, Protocol

from tqdm import tqdm

LINE_INTERVAL = 5.0  # seconds between plain lines


def rounded(mse: float) -> str:
    """An MSE for people: two decimals, and where they are not enough four significant digits."""
    return f"{mse:.2f}" if mse >= 100 or mse == 0 else f"{mse:.4g}"


class Progress(Protocol):
    """What a long step reports to."""

    def start(self, label: str, total: int, unit: str) -> None:
        """A step of `total` units begins; any step before it is over."""

    def advance(self, units: int, **facts: Any) -> None:
        """`units` more are done; facts (pass, mse …) are shown beside the bar."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def finish(self) -> None:
        """The step is over, at its total or before."""


class SilentProgress:
    """Reports nothing; the default of library calls."""

    def start(self, label: str, total: int, unit: str) -> None: ...

    def advance(self, units: int, **facts: Any) -> None: ...

    def note(self, text: str) -> None: ...

    def finish(self) -> None: ...


class _Lines:
    """A stream on which tqdm's redraws become lines."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class TerminalProgress:
    """Bars on a terminal, plain lines elsewhere, both on standard error."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._facts: dict[str, str] = {}

    def start(self, label: str, total: int, unit: str) -> None:
        self.finish()
        terminal = sys.stderr.isatty()
        self._facts = {}
        self._bar = tqdm(
            total=total,
            desc=label,
            unit=f" {unit}",
            unit_scale=True,
            file=sys.stderr if terminal else _Lines(),
            mininterval=0.2 if terminal else LINE_INTERVAL,
            delay=0 if terminal else LINE_INTERVAL,  # a short step is no line
            miniters=1,  # look at the clock every time
            bar_format=None
            if terminal
            else "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt}"
            " [{elapsed}, {remaining} left, {rate_fmt}{postfix}]",
            dynamic_ncols=terminal,
        )

    def advance(self, units: int, **facts: Any) -> None:
        if self._bar is None:
            return
        self._facts |= {name: _short(value) for name, value in facts.items()}
        if facts:
            self._bar.set_postfix(self._facts, refresh=False)
        self._bar.update(units)

    def note(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
