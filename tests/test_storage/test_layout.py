import os
from pathlib import Path

import pytest

from storage.layout import (
    ExperimentLayout,
    find_experiments,
    group_folders,
    moved_places,
    patch_store_path,
    patch_stores,
    source_parts,
    state_size,
    unfinished_patch_stores,
)


def make(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_experiments_are_found_in_an_out_and_by_their_own_folder(tmp_path: Path) -> None:
    layouts = [ExperimentLayout(tmp_path / name) for name in ("a", "b")]
    for layout in layouts:
        layout.dictionaries.mkdir(parents=True)
    make(tmp_path / "patches" / "x.zarr", tmp_path / "empty" / "report.html")
    assert find_experiments(tmp_path) == layouts
    assert find_experiments(tmp_path / "b") == layouts[1:]
    assert find_experiments(tmp_path / "absent") == []
    assert layouts[0].patches("x") == patch_store_path(tmp_path, "x")


def test_stores_and_what_is_left_of_them_are_told_apart(tmp_path: Path) -> None:
    names = ("b.zarr", "a.zarr", "c.zarr.partial", ".b.zarr.damaged", ".b.zarr.lock")
    make(*(tmp_path / "patches" / name for name in names))
    assert [path.name for path in patch_stores(tmp_path)] == ["a.zarr", "b.zarr"]
    assert [path.name for path in unfinished_patch_stores(tmp_path)] == ["c.zarr.partial"]


def test_states_of_fits_are_found_by_size(tmp_path: Path) -> None:
    layout = ExperimentLayout(tmp_path)
    states = [layout.fit_state(k, "nested") for k in (7, 70, 100_000)]
    half = [
        tmp_path / f".{states[0].name}.01234567.partial",
        tmp_path / ".dictionaries.zarr.1.partial",
    ]
    make(*states, *half, tmp_path / ".report.html.01234567.partial")
    assert sorted(map(state_size, layout.fit_states())) == [7, 70, 100_000]
    assert layout.fit_states(7) == states[:1]
    assert sorted(layout.half_written()) == sorted(half)


def test_groups_are_listed_by_size(tmp_path: Path) -> None:
    for name in ("k100000", "k00002", "k00010", "kinds"):
        (tmp_path / name).mkdir()
    make(tmp_path / "k00003")
    assert list(group_folders(tmp_path)) == [2, 10, 100_000]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("/a/b.npy", ("/a/b.npy", "")),
        ("/a/b.nc::c/d", ("/a/b.nc", "::c/d")),
        ("/a/b/*.png", ("/a/b", "/*.png")),
        ("/a/b/c?/**/x[0-9].png", ("/a/b", "/c?/**/x[0-9].png")),
        ("*.png", ("", "*.png")),
        ("digits", ("digits", "")),
    ],
)
def test_a_path_is_told_from_what_follows_it(text: str, parts: tuple[str, str]) -> None:
    assert source_parts(text) == parts
    assert "".join(parts) == text


def test_what_moved_is_found_with_what_follows_its_path(tmp_path: Path) -> None:
    make(tmp_path / "new" / "photos" / "1.png", tmp_path / "new" / "b[1].nc")
    folder = tmp_path / "new" / "runs" / "x"
    folder.mkdir(parents=True)
    for text in ("photos/*.png", "photos/**/[0-9].png", "b[1].nc", "*.nc"):
        assert f"{tmp_path}/new/{text}" in moved_places(f"/old/{text}", folder)
    make(tmp_path / "new" / "b.nc")
    assert [*moved_places("/old/b.nc::c/d", folder)] == [f"{tmp_path}/new/b.nc::c/d"]
    searched = [*moved_places("/old/**/*.png", folder)]
    assert searched == [f"{tmp_path}/new/runs/**/*.png", f"{tmp_path}/new/**/*.png"]
    assert source_parts(os.fspath(tmp_path / "new" / "b[1].nc")) == (f"{tmp_path}/new/b[1].nc", "")
