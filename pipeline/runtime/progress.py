"""Progress as an observer: the loops report, and print nothing themselves.

On a terminal a bar with rate and time left; otherwise a plain line every few seconds.
"""

import sys
from time import time
from typing import Any, Protocol, Self

from tqdm import tqdm

LINE_INTERVAL = 5.0  # seconds between plain lines
LAST_PERCENT = 99  # shown while a step lasts longer than was planned
AT_ONCE = 0.01  # seconds after its start in which a step reports what was done before it


def rounded(mse: float) -> str:
    """An MSE for people: two decimals, and where they are not enough four significant digits."""
    return f"{mse:.2f}" if mse >= 100 or mse == 0 else f"{mse:.4g}"


class Progress(Protocol):
    """What a long step reports to."""

    def start(self, label: str, total: int, unit: str) -> None:
        """A step of about `total` units begins; any step before it is over."""

    def advance(self, units: int, **facts: Any) -> None:
        """`units` more are done; facts (pass, mse …) are shown beside the bar."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def finish(self) -> None:
        """The step is complete, whether it took `total` units, fewer or more."""


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


class _Bar(tqdm):
    """A bar that is at 100 % at its end alone: a plan of the work is not the work."""

    planned, percent = 0, 0

    @property
    def format_dict(self) -> Any:
        share = min(LAST_PERCENT, int(100 * self.n // max(self.total, 1)))
        self.percent = max(self.percent, share)
        return super().format_dict | {"percent": f"{self.percent:3}%"}


class TerminalProgress:
    """Bars on a terminal, plain lines elsewhere, both on standard error.

    The share that is done never falls, and is 100 % when a step is finished. As a context manager
    it closes, as it stands, the bar of a step that an error broke off.
    """

    def __init__(self) -> None:
        self._bar: _Bar | None = None
        self._facts: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def start(self, label: str, total: int, unit: str) -> None:
        self._close()
        terminal = sys.stderr.isatty()
        self._facts = {}
        self._bar = _Bar(
            total=total,
            desc=label,
            unit=f" {unit}",
            unit_scale=True,
            file=sys.stderr if terminal else _Lines(),
            mininterval=0.2 if terminal else LINE_INTERVAL,
            delay=0 if terminal else LINE_INTERVAL,  # a short step is no line
            miniters=1,  # look at the clock every time
            smoothing=0.05 if terminal else 0.3,  # a window of some seconds in both
            bar_format="{desc}: {percent}"
            + ("|{bar}| " if terminal else " ")
            + "{n_fmt}/{total_fmt} [{elapsed}, {remaining} left, {rate_noinv_fmt}{postfix}]",
            dynamic_ncols=terminal,
        )
        self._bar.planned = total

    def advance(self, units: int, **facts: Any) -> None:
        bar = self._bar
        if bar is None or bar.disable:
            return
        self._facts |= {name: _short(value) for name, value in facts.items()}
        if facts:
            bar.set_postfix(self._facts, refresh=False)
        there = bar.n + units
        if bar.n == 0 and time() - bar.start_t < AT_ONCE:
            bar.initial = bar.n = bar.last_print_n = there  # done before: it tells no rate
        elif there == bar.planned:
            bar.n = there  # what comes next shows whether this is the end
        else:
            if there > bar.planned:
                bar.total = there * 100 / LAST_PERCENT
            bar.update(units)

    def note(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def finish(self) -> None:
        if self._bar is not None:
            self._bar.percent, self._bar.total = 100, self._bar.n
            self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
