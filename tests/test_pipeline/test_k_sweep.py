import copy
import json
import os
import shutil
import socket
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from pipeline import SweepOptions, SweepResult, assign, k_sweep, sweep
from pipeline.dictionaries import _Learning
from pipeline.experiment import Experiment
from pipeline.upkeep.drop import drop
from storage import (
    BusyError,
    InputError,
    dictionary_store,
    group_name,
    open_dictionaries,
    open_patches,
)
from storage.atomic import exclusive
from storage.dictionary_store import Dictionary
from storage.plain_attributes import parsed
from tests.oracles import squared_distances
from tests.spoiled import spoil_larger_than


def options(out: Path, **fields: Any) -> SweepOptions:
    """Of three Lloyd steps over all rows from independent starts, where nothing else is said."""
    few = {"k": "3,8", "max_iter": 3, "mode": "full", "init": "k-means++"}
    return SweepOptions.checked(**({"out": out} | few | fields))


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("runs")
    return out, sweep(options(out))


def test_a_result_is_a_dict_that_shows_itself(swept: tuple[Path, dict[str, Any]]) -> None:
    _, result = swept
    assert isinstance(result, dict)
    assert json.loads(json.dumps(result)) == result == copy.deepcopy(result)
    entry = {"heldout_mse": None, "passes": 9, "seconds": 1.26, "reused": True}
    shown = SweepResult(
        experiment="runs/<a>",
        rows=2000,
        dim=25,
        dictionaries=[
            entry | {"k": 10, "live": 10, "mse": 5395.862},
            entry | {"k": 200, "live": 199, "mse": 12.34567, "reused": False},
        ],
    )
    assert repr(shown).splitlines() == [
        "<a>: 2,000 patches of 25 values",
        "  K      MSE  live  passes  seconds",
        " 10  5395.86    10       9      1.3  reused",
        "200    12.35   199       9      1.3",
    ]
    page = shown._repr_html_()
    parsed = ElementTree.fromstring(f"<page>{page}</page>")  # whole, and escaped
    assert [cell.text for cell in parsed.iter("td")][:3] == ["10", "5395.86", "10"]
    assert len(list(parsed.iter("circle"))) == 2
    assert "&lt;a&gt;" in page
    for k, mse in ((10, 20.0), (50, 90.0), (200, 21.0)):  # as MSE in pixels may rise
        shown["dictionaries"].append(entry | {"k": k, "live": k, "mse": 1.0, "pixel_mse": mse})
    del shown["dictionaries"][:2]
    parsed = ElementTree.fromstring(f"<page>{shown._repr_html_()}</page>")
    heights = [float(circle.attrib["cy"]) for circle in parsed.iter("circle")]
    assert heights[1] == 20 < heights[2] < heights[0] == 130
    del shown["dictionaries"][1:]  # of one point there is no curve
    assert "<svg" not in shown._repr_html_()


def test_entries_agree_with_the_stored_dictionaries(swept: tuple[Path, dict[str, Any]]) -> None:
    _, result = swept
    tree = open_dictionaries(Path(result["experiment"]) / "dictionaries.zarr")
    assert [entry["k"] for entry in result["dictionaries"]] == [3, 8]
    store = open_patches(result["store"])
    rows = store.array[:]
    for entry in result["dictionaries"]:
        node = tree[group_name(entry["k"])]
        assert Path(entry["path"]).is_dir()
        assert node["centroids"].shape == (entry["k"], 5, 5)
        centroids = node["centroids"].values.reshape(-1, 25)
        distances = squared_distances(rows, centroids)
        assert entry["sse"] == pytest.approx(distances.min(1).sum(), rel=1e-7)
        assert entry["mse"] == pytest.approx(entry["sse"] / rows.size)
        assert entry["passes"] == 4
        assert entry["rows_seen"] == 4 * len(rows)
        assert entry["live"] == np.count_nonzero(node["count"]) == entry["k"]
        np.testing.assert_array_equal(
            node["count"], np.bincount(distances.argmin(1), minlength=entry["k"])
        )
        assert node["sse"].sum() == pytest.approx(entry["sse"])
        assert node["mse"][-1] == entry["mse"]
        assert node.attrs["variance"] == pytest.approx(rows.astype(float).var(axis=0).mean())
        assert 50e6 < node.attrs["peak_memory"] < 8e9
    assert tree.attrs["train_store"] == store.name
    assert parsed(tree.attrs)["fit"]["max_iter"] == 3


def test_heldout_score_is_of_the_test_split(swept: tuple[Path, dict[str, Any]]) -> None:
    out, result = swept
    tree = open_dictionaries(Path(result["experiment"]) / "dictionaries.zarr")
    held = open_patches(out / "patches" / f"{tree.attrs['test_store']}.zarr")
    assert held.source["split"] == "test"
    rows = held.array[:].astype(np.float64)
    centroids = tree["k00008"]["centroids"].values.reshape(-1, 25)
    errors = np.square(rows - centroids[assign(rows, centroids)])
    assert result["dictionaries"][1]["heldout_mse"] == pytest.approx(errors.mean(), rel=1e-7)


def test_second_sweep_learns_only_what_is_missing(
    swept: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, first = swept
    learned: list[int] = []
    learn = _Learning.learn

    def noting(self: _Learning, k: int, smaller: int | None) -> Dictionary:
        learned.append(k)
        return learn(self, k, smaller)

    monkeypatch.setattr(_Learning, "learn", noting)
    again = sweep(options(out, k="3,5,8"))
    assert learned == [5]
    assert again["reused"]
    assert [entry["reused"] for entry in again["dictionaries"]] == [True, False, True]
    for before, after in zip(first["dictionaries"], again["dictionaries"][::2], strict=True):
        assert before | {"reused": True} == after
    assert sweep(options(out, seed=1, k="3"))["experiment"] != first["experiment"]
    assert learned == [5, 3]


def test_each_stored_dictionary_is_read_a_few_times_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Counter[str]()
    attributes = dictionary_store.group_attributes

    def counting(folder: Path, *rest: Any) -> dict[str, Any]:
        read[folder.name] += 1
        return attributes(folder, *rest)

    monkeypatch.setattr(dictionary_store, "group_attributes", counting)
    sweep(options(tmp_path, k="2:9", max_iter=1, init="warm"))
    assert len(read) == 8
    assert max(read.values()) <= 3


def test_a_dictionary_does_not_depend_on_the_others(
    swept: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, first = swept
    alone = sweep(options(tmp_path, k="8"))
    trees = [open_dictionaries(Path(r["experiment"]) / "dictionaries.zarr") for r in (first, alone)]
    for name in ("centroids", "count", "sse", "mse", "shift"):
        np.testing.assert_array_equal(trees[0]["k00008"][name], trees[1]["k00008"][name])


def test_warm_starts_go_on_from_the_next_smaller_k(tmp_path: Path) -> None:
    sizes = (5, 6, 8, 9)
    fields = {"mode": "nested", "init": "warm", "max_iter": None, "breathing": 2, "stride": 2}
    whole = sweep(options(tmp_path / "whole", k=sizes, **fields))
    mse = [entry["mse"] for entry in whole["dictionaries"]]
    assert (np.diff(mse) <= 0).all()
    # In parts the same: each starts from what is stored.
    for part in (sizes[:2], sizes):
        parts = sweep(options(tmp_path / "parts", k=part, **fields))
    trees = [open_dictionaries(Path(r["experiment"]) / "dictionaries.zarr") for r in (whole, parts)]
    for k, smaller in zip(sizes, (None, *sizes), strict=False):
        nodes = [tree[group_name(k)] for tree in trees]
        assert nodes[0].attrs.get("started_from") == smaller
        assert nodes[0].attrs["stopped"] in ("tol", "target")
        for name in ("centroids", "count", "sse", "mse", "shift", "rows", "live"):
            np.testing.assert_array_equal(nodes[0][name], nodes[1][name])
    cold = sweep(options(tmp_path / "cold", k=sizes, **fields | {"init": "k-means++"}))
    tree = open_dictionaries(Path(cold["experiment"]) / "dictionaries.zarr")
    assert "started_from" not in tree[group_name(9)].attrs
    assert cold["dictionaries"][-1]["mse"] != mse[-1]


def test_a_larger_dictionary_is_never_worse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loop that spoils what it is given, but for the first; the sweep mends it.
    spoil_larger_than(5, monkeypatch)
    result = sweep(options(tmp_path, k="5,6,7", mode="nested", init="warm"))
    mse = [entry["mse"] for entry in result["dictionaries"]]
    assert mse[0] >= mse[1] >= mse[2]
    assert result["dictionaries"][1]["passes"] > 3  # those of both ways are told


def test_without_a_test_split_there_is_no_heldout_score(strokes_file: Path, tmp_path: Path) -> None:
    result = sweep(options(tmp_path / "out", dataset=str(strokes_file), patch="3x2"))
    assert [entry["heldout_mse"] for entry in result["dictionaries"]] == [None, None]
    tree = open_dictionaries(Path(result["experiment"]) / "dictionaries.zarr")
    assert tree["k00003"]["centroids"].shape == (3, 3, 2)
    assert "test_store" not in tree.attrs


def test_colour_dictionaries_have_a_channel_axis(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(1, 256, (30, 7, 6, 3), dtype=np.uint8)
    np.save(tmp_path / "colour.npy", images)
    result = sweep(options(tmp_path / "out", dataset=str(tmp_path / "colour.npy"), patch="3"))
    tree = open_dictionaries(Path(result["experiment"]) / "dictionaries.zarr")
    assert tree["k00003"]["centroids"].dims == ("atom", "row", "col", "channel")
    assert tree["k00003"]["centroids"].shape == (3, 3, 3, 3)


def test_two_sweeps_of_one_experiment_do_not_mix(swept: tuple[Path, dict[str, Any]]) -> None:
    out, first = swept
    lock = Path(first["experiment"]) / ".lock"
    with exclusive(lock, "at work"), pytest.raises(BusyError) as caught:
        sweep(options(out, k="4"))
    assert f"process {os.getpid()} on {socket.gethostname()}, since 20" in str(caught.value)
    assert f"is sweeping into {lock.parent}" in str(caught.value)


def test_a_dictionary_that_is_dropped_as_a_sweep_ends_is_told_in_one_line(
    swept: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(swept[0], tmp_path / "runs")

    def dropped(experiment: Experiment, *others: Any) -> list[int]:
        learned = complete(experiment, *others)
        drop(experiment.folder, [3])
        return learned

    complete = k_sweep._complete
    monkeypatch.setattr(k_sweep, "_complete", dropped)
    with pytest.raises(BusyError, match=r"K = 3 .* was dropped .*: run the same sweep again"):
        sweep(options(tmp_path / "runs"))
    monkeypatch.undo()
    again = sweep(options(tmp_path / "runs"))["dictionaries"]
    assert [entry["reused"] for entry in again] == [False, True]


def test_option_mode_and_init_reach_the_loops(tmp_path: Path) -> None:
    results = [
        sweep(options(tmp_path, k="8", stride=2, **fields))["dictionaries"][0]["mse"]
        for fields in (
            {},
            {"mode": "nested", "max_iter": None},
            {"mode": "nested", "max_iter": None, "breathing": 0},
            {"mode": "minibatch"},
            {"init": "random"},
            {"max_iter": None},
            {"max_iter": None, "min_gain": "0.01"},
            {"tol": "100"},
            {"mode": "minibatch", "batch_size": "500"},
        )
    ]
    assert len(set(results)) == len(results)


def test_more_centroids_than_rows_are_told_of_before_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "few.npy", np.full((3, 5, 5), 9, np.uint8))
    fields = {"dataset": str(tmp_path / "few.npy"), "out": tmp_path, "memory": "500MiB"}
    with pytest.raises(InputError, match="K = 9000000 is more than the 3 rows there are"):
        sweep(SweepOptions(k=(2, 9_000_000), device="cpu", **fields))
