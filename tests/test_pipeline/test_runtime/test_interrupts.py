"""The end upon a signal, whatever the process is in the middle of."""

import signal
import subprocess
import sys
import time

import pytest

from pipeline.runtime.interrupts import LAST_WORDS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

# Each is a process that does not come to an end by itself; {work} is what it is in the middle of.
PROGRAM = """
import sys, threading, time
import click
from pipeline.command_line import run

@click.group()
def group(): pass

@group.command()
def work():
    {work}

sys.argv = ["patchdict", "work"]
run(group)
"""
READY = "print('ready', flush=True)"
WORKS = {
    "python": f"{READY}; time.sleep(60)",
    "a kernel": (
        "import numba\n"
        "    @numba.njit(nogil=True)\n"
        "    def spin(n):\n"
        "        x = 1\n"
        "        for _ in range(n): x = x * 5 % 1000003\n"
        "        return x\n"
        f"    spin(1); {READY}; spin(10**11)"
    ),
    "a thread": f"threading.Thread(target=time.sleep, args=(60,)).start(); {READY}; time.sleep(60)",
    "a process": (
        "import subprocess\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"    {READY}\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start(); child.wait()"
    ),
    "one that swallows it": (
        f"{READY}\n    try: time.sleep(60)\n    except KeyboardInterrupt: time.sleep(60)"
    ),
}


def started(program: str) -> "subprocess.Popen[str]":
    """Python in the middle of a program."""
    command, pipe = [sys.executable, "-c", program], subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("work", WORKS)
def test_last_words_and_the_end(work: str, number: signal.Signals) -> None:
    process = started(PROGRAM.format(work=WORKS[work]))
    process.send_signal(number)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)  # people press it twice
    _, errors = process.communicate(timeout=20)  # its children hold the pipe too
    assert process.returncode == 128 + number
    assert errors.split("\n").count(LAST_WORDS) == 1
    assert "Traceback" not in errors


def test_the_end_comes_though_nobody_reads_the_last_words() -> None:
    process = started(PROGRAM.format(work=WORKS["a kernel"]))
    for stream in (process.stdout, process.stderr):  # as tee does, which the same Ctrl-C ends
        assert stream is not None
        stream.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 128 + signal.SIGINT


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    work = f"{READY}; time.sleep(1); print('done', flush=True)"
    process = started(ignoring + PROGRAM.format(work=work))
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20) == ("done\n", "")
    assert process.returncode == 0
