import os
from pathlib import Path

import pytest

from storage.atomic import replace_durably, sync_tree


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order in which they are flushed, and `replace` where the name is given."""
    order: list[str] = []
    replace = os.replace

    def fsync(handle: int) -> None:
        order.append(os.readlink(f"/proc/self/fd/{handle}"))

    def noted(source: Path, target: Path) -> None:
        order.append("replace")
        replace(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("this system does not say what a handle is open on")
    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", noted)
    return order


def test_content_reaches_the_disk_before_the_name(tmp_path: Path, flushed: list[str]) -> None:
    staging, path = tmp_path / "staging", tmp_path / "name"
    (staging / "inner").mkdir(parents=True)
    (staging / "inner" / "file").write_text("content")
    replace_durably(staging, path)
    assert flushed == [
        str(staging / "inner" / "file"),
        str(staging / "inner"),
        str(staging),
        "replace",
        str(tmp_path),
    ]
    assert (path / "inner" / "file").read_text() == "content"


def test_a_file_is_replaced_and_a_full_folder_is_not(tmp_path: Path, flushed: list[str]) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    replace_durably(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "new"
    assert flushed == [str(tmp_path / "new"), "replace", str(tmp_path)]
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    (tmp_path / "other").mkdir()
    with pytest.raises(OSError, match=r"not empty"):
        replace_durably(tmp_path / "other", tmp_path / "folder")


def test_a_single_file_can_be_flushed(tmp_path: Path, flushed: list[str]) -> None:
    (tmp_path / "file").write_text("content")
    sync_tree(tmp_path / "file")
    assert flushed == [str(tmp_path / "file")]
