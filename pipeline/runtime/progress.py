"""Progress as an observer: the loops report, and print nothing themselves.

On a terminal, and in a notebook, one line a stage that is drawn anew, with rate and time left;
otherwise plain lines.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Thread
from time import time
from typing import Any, Protocol, Self

from tqdm import tqdm

LINE_INTERVAL = 10.0  # seconds between plain lines
REDRAWN = 0.2  # seconds between two drawings on a terminal
TICK = 1.0  # seconds after which a line that nobody reports to is drawn anew
LONG = 5.0  # seconds without a change after which the time left is told by all that went before
LAST_PERCENT = 99  # shown while a stage lasts longer than was planned
AT_ONCE = 0.01  # seconds after its start in which a step reports what was done before it
WHOLE = (0.0, 1.0)
NOTEBOOK_COLUMNS = 100  # letters of a line, where nobody knows how wide a page is


def rounded(mse: float) -> str:
    """An MSE for people: two decimals, and where they are not enough four significant digits."""
    return f"{mse:.2f}" if mse >= 100 or mse == 0 else f"{mse:.4g}"


class Progress(Protocol):
    """What a long step reports to."""

    def stage(self, steps: Mapping[str, float], *, kept: bool = True) -> None:
        """Steps of these labels, each with its share of the time, have one line together.

        kept: whether the line stays when it is complete; False where a note tells its result.
        """

    def start(self, label: str, total: int, unit: str) -> None:
        """A step of about `total` units begins; any step before it is over. 0: nobody knows."""

    def advance(self, units: int, **facts: Any) -> None:
        """`units` more are done; facts (pass, mse …) are shown beside the bar."""

    def note(self, text: str) -> None:
        """Something worth a line."""

    def finish(self) -> None:
        """The step is complete, whether it took `total` units, fewer or more."""


class SilentProgress:
    """Reports nothing; the default of library calls."""

    def stage(self, steps: Mapping[str, float], *, kept: bool = True) -> None: ...
    def start(self, label: str, total: int, unit: str) -> None: ...
    def advance(self, units: int, **facts: Any) -> None: ...
    def note(self, text: str) -> None: ...
    def finish(self) -> None: ...


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _redraws() -> bool:
    """Whether a line can be drawn anew where standard error goes."""
    return sys.stderr.isatty() or in_notebook()


@contextmanager
def shown(progress: Progress | None) -> Iterator[Progress]:
    """The observer that is given; where none is, a line in a notebook, and nobody elsewhere."""
    if progress is None and in_notebook():
        with TerminalProgress() as line:
            yield line
    else:
        yield progress or SilentProgress()


class _Lines:
    """A stream on which tqdm's redraws become lines."""

    def write(self, text: str) -> None:
        if line := text.strip("\r\n "):
            sys.stderr.write(line + "\n")

    def flush(self) -> None:
        sys.stderr.flush()


class _Step:
    """How far one step of a stage is.

    span: of its stage, as shares from 0 to 1.
    """

    def __init__(self, total: int, unit: str, span: tuple[float, float]) -> None:
        self.total, self.unit, self.span = total, unit, span
        self.done = self.before = 0
        self.started = time()

    @property
    def place(self) -> float:
        """The share of the stage that is done."""
        first, last = self.span
        done = self.done / self.total if self.total else 0.0
        return first + (last - first) * min(done, LAST_PERCENT / 100 if done > 1 else 1.0)

    @property
    def amount(self) -> str:
        """Units that are done, of all."""
        return f"{_sized(self.done)}/{_sized(max(self.done, self.total))}"

    @property
    def speed(self) -> str:
        """Units per second since the step began."""
        seconds, made = time() - self.started, self.done - self.before
        rate = tqdm.format_sizeof(made / seconds) if seconds > 0 and made else "?"
        return f"{rate} {self.unit}/s"


class _Bar(tqdm):
    """The line of a stage: at 100 % at its end alone, as a plan of the work is not the work."""

    step = _Step(0, "", WHOLE)
    percent = 0
    moved = 0.0  # when it did last
    interval = 0.0  # seconds between two drawings

    @property
    def format_dict(self) -> Any:
        share = min(LAST_PERCENT, int(100 * self.n + 1e-6))
        self.percent = max(self.percent, share)
        facts = super().format_dict | {"percent": f"{self.percent:3}%"}
        if time() - self.moved > LONG:  # tqdm then takes the rate since the beginning
            facts["rate"] = None
        planned, known = self.step.total > 0, self.step.span != WHOLE or self.step.total > 0
        bar = "|{bar}| " if facts["ncols"] else " "
        if planned:
            facts |= {"amount": self.step.amount, "speed": self.step.speed}
        facts["bar_format"] = (
            "{desc}: "
            + ("{percent}" + bar if known else "")
            + ("{amount} " if planned else "")
            + "[{elapsed}"
            + (", {remaining} left" if known else "")
            + (", {speed}{postfix}" if planned else "")
            + "]"
        )
        return facts


class TerminalProgress:
    """Lines that are drawn anew on a terminal, plain lines elsewhere, both on standard error.

    The share that is done never falls, and is 100 % when a stage is finished. A stage that reports
    nothing for a while is drawn anew all the same, so that its clock runs. As a context manager
    it closes, as it stands, the line of a step that an error broke off.
    """

    def __init__(self) -> None:
        self._bar: _Bar | None = None
        self._spans: dict[str, tuple[float, float]] = {}
        self._kept = True
        self._facts: dict[str, str] = {}
        self._over = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def stage(self, steps: Mapping[str, float], *, kept: bool = True) -> None:
        self._close()
        self._spans, self._kept, first = {}, kept, 0.0
        for label, share in steps.items():
            last = first + share / sum(steps.values())
            self._spans[label] = first, last
            first = last

    def start(self, label: str, total: int, unit: str) -> None:
        if label not in self._spans:
            self._close()
            self._spans, self._kept = {label: WHOLE}, total > 0
        self._facts = {}
        step = _Step(total, unit, self._spans[label])
        if self._bar is None:
            self._bar = self._drawn(label, step)
            return
        self._bar.step = step
        self._bar.set_postfix(refresh=False)
        self._bar.set_description_str(label, refresh=_redraws())

    def _drawn(self, label: str, step: _Step) -> _Bar:
        """The line of a stage that begins with this step, and what draws it when nobody does."""
        terminal = _redraws()
        bar = _Bar(
            total=1,
            desc=label,
            file=sys.stderr if terminal else _Lines(),
            leave=self._kept,
            mininterval=REDRAWN if terminal else LINE_INTERVAL,
            delay=LINE_INTERVAL,  # a short step is no line
            miniters=0,  # look at the clock every time
            smoothing=0.05 if terminal else 0.3,  # a window of some seconds in both
            dynamic_ncols=terminal and not in_notebook(),
            ncols=NOTEBOOK_COLUMNS if in_notebook() else None,
        )
        bar.step, bar.moved, bar.interval = step, time(), bar.mininterval
        if terminal:
            bar.delay = 0
            bar.refresh()
        self._over = Event()
        interval = TICK if terminal else LINE_INTERVAL
        Thread(target=_tick, args=(bar, interval, self._over), daemon=True).start()
        return bar

    def advance(self, units: int, **facts: Any) -> None:
        bar = self._bar
        if bar is None or bar.disable:
            return
        step = bar.step
        self._facts |= {name: _short(value) for name, value in facts.items()}
        if facts:
            bar.set_postfix(self._facts, refresh=False)
        new = step.done == 0 and time() - step.started < AT_ONCE
        step.done += units
        gained = max(0.0, step.place - bar.n)
        if gained:
            bar.moved = time()
        if new:  # done before: it tells no rate
            step.before = step.done
            bar.initial += gained
            bar.n = bar.last_print_n = bar.n + gained
        elif bar.update(gained):  # it drew the line
            bar.mininterval = bar.interval

    def note(self, text: str) -> None:
        tqdm.write(text, file=sys.stderr)

    def finish(self) -> None:
        if self._bar is None:
            return
        step = self._bar.step
        last = step.span[1]
        self._bar.n = max(self._bar.n, last)
        step.total = step.done = step.done or step.total
        if last > 1 - 1e-9:
            self._bar.percent, self._bar.n = 100, 1
            self._close()

    def _close(self) -> None:
        self._spans = {}
        if self._bar is not None:
            self._over.set()
            self._bar.close()
            self._bar = None


def _tick(bar: _Bar, interval: float, over: Event) -> None:
    """Draw a line anew whenever it was not for some seconds, until it is over."""
    drawn, beat = time(), min(TICK, interval) / 4
    while not over.wait(beat):
        # later than reports would draw it, so that both do not
        if time() - max(drawn, bar.last_print_t) >= interval + beat and not over.is_set():
            bar.delay = 0  # it was shown, so that its end is, too
            bar.refresh()
            drawn = time()
            bar.mininterval = drawn - bar.last_print_t + interval  # a report draws it after that


def _sized(count: int) -> str:
    return str(count) if count < 1000 else str(tqdm.format_sizeof(count))


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
