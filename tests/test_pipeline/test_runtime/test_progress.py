"""Bars and lines: what a person sees of a long step."""

import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from types import SimpleNamespace

import pytest

from pipeline.kmeans.nested import planned_rows, prefixes
from pipeline.runtime.progress import (
    LINE_INTERVAL,
    NOTEBOOK_COLUMNS,
    REDRAWN,
    SilentProgress,
    TerminalProgress,
    rounded,
    shown,
)

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
    monkeypatch.setattr("pipeline.runtime.progress._tick", lambda *_: None)
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
    for part in ("K=7: ", " left, ", "0.10 rows/s", "MSE=1234.5"):
        assert part in lines[1]
    left = [int(found[1]) * 60 + int(found[2]) for line in lines if (found := LEFT.search(line))]
    assert all(later <= earlier + 1 for earlier, later in pairwise(left))


def test_a_notebook_has_a_line_that_is_drawn_anew(
    clock: Clock, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever calls without an observer has one there, and nowhere else."""
    with shown(None) as progress:
        assert isinstance(progress, SilentProgress)
    notebook = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", notebook)
    own = SilentProgress()
    with shown(own) as progress:
        assert progress is own
    with shown(None) as progress:
        progress.start("K=7", 4, "rows")
        for _ in range(4):
            clock.now += REDRAWN
            progress.advance(1)
        progress.finish()
    drawn = capsys.readouterr().err
    assert drawn.count("\r") >= 4
    assert drawn.count("\n") == 1  # at its end
    assert percents(drawn)[-1] == 100
    assert {len(line) for line in drawn.strip().split("\r") if "|" in line} == {NOTEBOOK_COLUMNS}
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: object()))
    with shown(None) as progress:  # IPython in a terminal
        assert isinstance(progress, SilentProgress)


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
    told = capsys.readouterr().err
    assert re.search(r"91% 910/1.00k \[00:10, 01:(29|30) left, 1.00 rows/s\]", told)


def test_the_steps_of_a_stage_have_one_line(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = TerminalProgress()
    progress.stage({"K=7 seeding": 1, "K=7": 8, "K=7 held out": 1})
    for label, total in (("K=7 seeding", 10), ("K=7", 40), ("K=7", 4), ("K=7 held out", 10)):
        progress.start(label, total, "rows")  # the second K=7 mends what the first one did
        for _ in range(total):
            clock.now += LINE_INTERVAL
            progress.advance(1)
        if total != 40:
            progress.finish()
    lines = capsys.readouterr().err.splitlines()
    shown = [percents(line)[0] for line in lines]
    assert shown == sorted(shown)
    assert shown[9] == 10
    assert shown[9 + 20] == 50
    assert shown[9 + 40 : 9 + 44] == [90] * 4
    assert shown.count(100) == 1
    assert shown[-1] == 100
    assert [line.split(":")[0] for line in lines[8:12]] == ["K=7 seeding"] * 2 + ["K=7"] * 2


def test_a_line_whose_result_is_told_goes(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.stage({"K=7": 1}, kept=False)
    progress.start("K=7", 2, "rows")
    clock.now += LINE_INTERVAL
    progress.advance(1)
    progress.advance(1)
    progress.finish()
    progress.note("K=7: MSE 12")
    progress.start("K=8", 2, "rows")
    progress.finish()
    shown, note = capsys.readouterr().err.splitlines()
    assert percents(shown) == [50]
    assert note == "K=7: MSE 12"


def test_a_step_that_says_nothing_is_told_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert LINE_INTERVAL == 10
    monkeypatch.setattr("pipeline.runtime.progress.LINE_INTERVAL", 0.1)
    with TerminalProgress() as progress:
        progress.start("starting", 0, "")
        time.sleep(0.5)
        progress.finish()
        progress.start("K=7", 4, "rows")
        progress.advance(1)
        time.sleep(0.5)
        threads = threading.active_count()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "starting: [00:00]"
    assert len([line for line in lines if line.startswith("K=7:  25% 1/4")]) >= 2
    time.sleep(0.2)
    assert threading.active_count() < threads


def test_the_time_left_of_a_step_that_stands_still_is_that_of_its_whole(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = TerminalProgress()
    progress.start("report", 4, "parts")
    clock.now += LINE_INTERVAL
    progress.advance(2)
    clock.now += 9 * LINE_INTERVAL
    progress.advance(0, doing="words")
    *_, last = capsys.readouterr().err.splitlines()
    assert "50% 2/4 [01:40, 01:40 left, 0.02 parts/s, doing=words]" in last


def test_a_short_step_is_no_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress()
    progress.start("K=7", 100, "rows")
    clock.now += LINE_INTERVAL / 2
    progress.advance(100)
    progress.finish()
    assert capsys.readouterr().err == ""


def test_the_plan_of_a_fit_heeds_max_iter() -> None:
    rows = 1 << 20
    sizes, _ = prefixes(rows, 100, warm=False)
    for most in (1, 2, 4):
        assert planned_rows(rows, 100, 30, most, warm=False) == most * sum(sizes) + rows
    assert planned_rows(rows, 100, 30, 300, warm=False) > 4 * sum(sizes) + rows
    assert planned_rows(rows, 100, 30, 20, warm=False) <= 20 * sum(sizes) + rows


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
    assert "13/13 [00:00, 00:00 left, " in last


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
