import os
from pathlib import Path

from numba import njit

from pipeline.runtime.kernel_cache import compilation_told, drop_stale
from tests.notes import Notes


def test_kernels_older_than_any_source_are_not_used(tmp_path: Path) -> None:
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    files = [tmp_path / "one.py", tmp_path / "two.py", cache / "one.nbi", cache / "two.1.nbc"]
    for seconds, file in enumerate(files, start=1000):
        file.touch()
        os.utime(file, (seconds, seconds))
    drop_stale(tmp_path)
    assert all(file.exists() for file in files)
    os.utime(files[1], (1002.5, 1002.5))
    drop_stale(tmp_path)
    assert [file.exists() for file in files] == [True, True, False, True]


def test_files_that_another_process_deletes_meanwhile_are_no_matter(tmp_path: Path) -> None:
    (tmp_path / "one.py").touch()
    for name in ("gone.py", "gone.nbi"):
        (tmp_path / name).symlink_to("nowhere")  # is listed, and not there
    drop_stale(tmp_path)
    assert (tmp_path / "one.py").exists()


def test_what_is_compiled_is_told_once() -> None:
    @njit
    def inner(x: int) -> int:
        return x + 1

    @njit
    def outer(x: int) -> int:
        return inner(x) + 1

    progress = Notes()
    for _ in range(2):
        with compilation_told(progress):
            assert outer(1) == 3
    began, ended = progress.lines
    assert began.startswith("compiling kernels")
    assert ended.startswith("compiled kernels in")
