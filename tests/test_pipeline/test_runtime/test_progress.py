"""Bars and lines: what a person sees of a long step."""

import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise

import pytest

from pipeline.runtime.progress import LINE_INTERVAL, TerminalProgress, rounded

PERCENT = re.compile(r"(\d+)%")
LEFT = re.compile(r"(\d+):(\d+) left")


class Clock:
    """The time that bars are told."""

    now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    monkeypatch.setattr("pipeline.runtime.progress.time", clock)
    return clock


def percents(text: str) -> list[int]:
    return [int(found) for found in PERCENT.findall(text)]


@pytest.mark.parametrize("real", [40, 99, 100, 150, 300])
def test_a_step_ends_at_100_percent_whatever_was_planned(
    real: int, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = TerminalProgress()
    progress.start("K=7", 100, "rows")
    for _ in range(real):
        clock.now += LINE_INTERVAL
        progress.advance(1, MSE=1234.5)
    progress.finish()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(set(lines)) >= real - 1
    shown = [percents(line)[0] for line in lines]
    assert shown == sorted(shown)
    assert shown.count(100) == 1
    assert f" {real}" in lines[-1]
    for part in ("K=7: ", " left, ", "0.20 rows/s", "MSE=1234.5"):
        assert part in lines[1]
    left = [int(found[1]) * 60 + int(found[2]) for line in lines if (found := LEFT.search(line))]
    assert all(later <= earlier + 1 for earlier, later in pairwise(left))


def test_a_step_that_an_error_breaks_off_is_left_as_it_stands(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="disk"), TerminalProgress() as progress:  # noqa: PT012
        progress.start("K=7", 100, "rows")
        clock.now += LINE_INTERVAL
        progress.advance(30)
        raise OSError("disk")
    assert set(percents(capsys.readouterr().err)) == {30}


def test_what_was_done_before_tells_no_rate(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = TerminalProgress()
    progress.start("K=7", 1000, "rows")
    progress.advance(900)
    clock.now += 10
    progress.advance(10)
    assert "91% 910/1.00k [00:10, 01:30 left, 1.00 rows/s]" in capsys.readouterr().err


def test_a_short_step_is_no_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.start("K=7", 100, "rows")
    clock.now += LINE_INTERVAL / 2
    progress.advance(100)
    progress.finish()
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_the_bar_of_a_terminal_ends_at_100_percent() -> None:
    import fcntl
    import pty
    import termios

    program = """
import time
from pipeline.runtime.progress import TerminalProgress
progress = TerminalProgress()
progress.start("K=7", 10, "rows")
for _ in range(13):
    time.sleep(0.05)
    progress.advance(1, MSE=1234.5)
progress.finish()
"""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    with subprocess.Popen([sys.executable, "-c", program], stderr=theirs):
        os.close(theirs)
        drawn = b""
        while piece := _read(ours):
            drawn += piece
    os.close(ours)
    *bars, last = drawn.decode().rstrip().split("\r")
    assert percents("".join(bars)) == sorted(percents("".join(bars)))
    assert last.startswith("K=7: 100%|█")
    assert "13.0/13.0 [00:00, 00:00 left, " in last


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # nobody writes to it any more
        return b""


@pytest.mark.parametrize(
    ("mse", "told"),
    [(6537247.17, "6537247.17"), (1703.987, "1703.99"), (0.00125123, "0.001251"), (0, "0.00")],
)
def test_an_mse_of_any_size_is_told(mse: float, told: str) -> None:
    assert rounded(mse) == told
