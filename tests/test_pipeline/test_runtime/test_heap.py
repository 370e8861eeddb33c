"""What the allocator of the C library keeps for threads."""

from pathlib import Path

import pytest

from pipeline.runtime import memory
from tests.process_trees import run_measured

ARENAS = """
import ctypes, sys, threading
from pipeline.command_options import watched
together = threading.Barrier(8)
def work():
    together.wait()
    blocks = [bytearray(100_000) for _ in range(100)]
    together.wait()
with watched():
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype, libc.malloc_info.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
told = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, told)
libc.fclose(told)
"""


@pytest.mark.skipif(not hasattr(memory._C, "malloc_info"), reason="has another allocator")
def test_threads_of_a_command_share_the_heap(tmp_path: Path) -> None:
    ran = run_measured(["-c", ARENAS, str(tmp_path / "told.xml")])
    assert ran.code == 0, ran.err
    assert (tmp_path / "told.xml").read_text().count("<heap nr=") <= 2
