import ast
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from numba import njit

import pipeline
from pipeline.engines.cpu.simd import kernel
from pipeline.runtime import kernel_cache
from pipeline.runtime.kernel_cache import compilation_told, kernel_folder, private_folder
from tests.notes import Notes
from tests.programs import run_python

WEEK = 7 * 24 * 3600


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Path]]:
    """Where kernels may lie, the best first, and none of them used so far."""
    found = {name: tmp_path / name for name in ("given", "package", "home", "temporary")}
    for place in found.values():
        place.mkdir()
    (found["package"] / "one.py").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(found["given"]))
    monkeypatch.setenv("HOME", str(found["home"]))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(found["temporary"]))
    monkeypatch.setattr(kernel_cache, "PACKAGE", found["package"])
    forget()
    yield found
    monkeypatch.undo()
    forget()


def forget() -> None:
    kernel_folder.cache_clear()
    kernel_cache.sources_digest.cache_clear()
    kernel_cache.place_triton_kernels.cache_clear()
    kernel_cache._tell.cache_clear()


def take_away(place: Path) -> None:
    """Nothing can be written below a file, not even by root."""
    shutil.rmtree(place)
    place.touch()


def test_kernels_lie_where_there_is_room_and_elsewhere_that_is_said_once(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, place in places.items():
        forget()
        folder = kernel_folder()
        assert folder is not None
        assert folder.is_dir()
        assert place in folder.parents
        assert len(caplog.messages) == (name == "temporary")
        forget()
        assert kernel_folder() == folder
        if name != "package":
            take_away(place)
        else:
            (place / "__pycache__").rename(place / "away")
            (place / "__pycache__").touch()
    assert str(places["temporary"]) in caplog.messages[0]
    forget()
    assert kernel_folder() is None
    assert kernel_folder() is None
    assert len(caplog.messages) == 2
    assert "in every process" in caplog.messages[1]


def test_a_user_without_a_home_has_no_cache_of_his_own(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(places["home"])
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as Python does then
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    (places["package"] / "__pycache__").touch()
    folder = kernel_folder()
    assert folder is not None
    assert places["temporary"] in folder.parents


@pytest.mark.parametrize("home", ["a file", "none", "a folder", "a folder of Triton's", "given"])
def test_triton_keeps_kernels_where_it_can_write(
    home: str,
    places: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.chdir(places["package"])
    monkeypatch.setenv("TRITON_CACHE_DIR", str(places["given"]) if home == "given" else "")
    monkeypatch.delenv("TRITON_HOME", raising=False)
    if home == "none":
        monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as Python does then
    elif home != "a folder":
        take_away(places["home"])
    if home == "a folder of Triton's":
        monkeypatch.setenv("TRITON_HOME", str(places["given"]))
    before = os.environ["TRITON_CACHE_DIR"]
    for _ in range(2):
        kernel_cache.place_triton_kernels()
        kernel_cache.place_triton_kernels.cache_clear()
    moved = home in ("a file", "none")
    assert len(caplog.messages) == moved
    found = os.environ["TRITON_CACHE_DIR"]
    assert found == before or moved
    assert not moved or places["temporary"] in Path(found).parents
    assert not (places["package"] / "~").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no permissions")
@pytest.mark.parametrize("kind", ["a link", "open to all"])
def test_a_temporary_folder_that_another_may_have_filled_is_not_used(
    kind: str, places: dict[str, Path]
) -> None:
    folder = private_folder("kernels")
    assert folder.stat().st_mode & 0o077 == 0
    if kind == "a link":
        folder.rename(places["given"] / "theirs")
        folder.symlink_to(places["given"] / "theirs")
    else:
        folder.chmod(0o777)
    with pytest.raises(PermissionError, match="not of this user alone"):
        private_folder("kernels")


def test_kernels_of_other_sources_are_not_used_and_go_after_a_week(
    places: dict[str, Path],
) -> None:
    folders = []
    (places["package"] / "engines" / "cpu").mkdir(parents=True)
    for text in ("", "x = 1", "x = 2"):
        (places["package"] / "engines" / "cpu" / "one.py").write_text(text)
        forget()
        folder = kernel_folder()
        assert folder is not None
        folders.append(folder)
    assert len(set(folders)) == 3
    assert all(folder.exists() for folder in folders)
    before = folders[2].stat().st_mtime - WEEK
    os.utime(folders[0], (before - 60, before - 60))
    os.utime(folders[1], (before + 60, before + 60))
    forget()
    kernel_folder()
    assert [folder.exists() for folder in folders] == [False, True, True]


def test_kernels_stay_when_a_file_without_kernels_changes(places: dict[str, Path]) -> None:
    before = kernel_folder()
    (places["package"] / "one.py").write_text("x = 1")
    forget()
    assert kernel_folder() == before
    (places["package"] / "one.py").write_text("from pipeline.engines.cpu.simd import kernel")
    forget()
    assert kernel_folder() != before


def test_what_kernels_take_from_other_files_counts() -> None:
    package = Path(pipeline.__file__).parent
    sources = set(kernel_cache.kernel_sources(package))
    assert package / "kmeans" / "d2_sampling.py" in sources
    for file in sources:
        tree = ast.parse(file.read_text())
        compiled = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef)
            and {"kernel", "inner"} & {name.id for name in names_in(*node.decorator_list)}
        ]
        used = {name.id for name in names_in(*compiled)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("pipeline."):
                taken = used & {name.asname or name.name for name in node.names}
                origin = package.parent / f"{(node.module or '').replace('.', '/')}.py"
                assert not taken or origin in sources, (file, taken)


def names_in(*nodes: ast.AST) -> list[ast.Name]:
    return [found for node in nodes for found in ast.walk(node) if isinstance(found, ast.Name)]


@pytest.mark.parametrize(
    "kept",
    [
        "beside the sources",
        "elsewhere, by a locator",
        pytest.param("elsewhere", marks=pytest.mark.slow),
    ],
)
def test_a_kernel_is_compiled_again_when_what_it_calls_has_changed(
    kept: str, tmp_path: Path
) -> None:
    package = tmp_path / "pipeline"
    shutil.copytree(Path(pipeline.__file__).parent, package, ignore=shutil.ignore_patterns("*_*e_"))
    (package / "outer.py").write_text(
        "from pipeline.engines.cpu.simd import kernel\nfrom pipeline.called import called\n"
        "@kernel\ndef outer(x: int) -> int:\n    return called(x)\n"
        "print(outer(1), outer.stats.cache_hits and 'read' or 'compiled')\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    if kept != "beside the sources":
        env["NUMBA_CACHE_DIR"] = str(tmp_path / "kernels")
    if kept == "elsewhere, by a locator":
        env["NUMBA_CACHE_LOCATOR_CLASSES"] = "UserProvidedCacheLocator"
    said = []
    for result in ("x + 1", "x + 1", "x + 2"):
        (package / "called.py").write_text(
            "from pipeline.engines.cpu.simd import inner\n"
            f"@inner\ndef called(x: int) -> int:\n    return {result}\n"
        )
        said.append(run_python("-m", "pipeline.outer", env=env, cwd=tmp_path).stdout.strip())
    assert said == ["2 compiled", "2 read", "3 compiled"]


@pytest.mark.parametrize("place", ["none", "one that is gone", "one with damaged files"])
def test_a_kernel_that_cannot_be_kept_stays_in_memory(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = None if place == "none" else tmp_path / "kernels"
    monkeypatch.setattr("pipeline.engines.cpu.simd.kernel_folder", lambda: folder)

    def double(x: int) -> int:
        return 2 * x

    compiled = kernel(double)
    if folder is not None and place == "one that is gone":
        take_away(folder)
    elif folder is not None:
        compiled(4)
        for file in folder.rglob("*.nb?"):
            file.write_bytes(b"")
        compiled = kernel(double)
    before = kernel_cache.code_bytes([compiled])
    if place != "one with damaged files":
        assert before == kernel_cache.LOADED_BYTES + kernel_cache.COMPILED_BYTES
    assert compiled(4) == 8
    assert kernel_cache.code_bytes([compiled]) == 0


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
