from pathlib import Path

import numpy as np
import pytest
import zarr

from storage import Dictionary, InputError, IntegrityError, group_name, open_dictionaries
from storage.dictionary_store import (
    HISTORY,
    create_dictionaries,
    finished_dictionaries,
    write_dictionary,
)
from storage.plain_attributes import parsed


def example(k: int, channels: int = 1) -> Dictionary:
    rng = np.random.default_rng(k)
    shape = (k, 2, 3) if channels == 1 else (k, 2, 3, channels)
    return Dictionary(
        centroids=rng.random(shape, np.float32),
        count=rng.integers(0, 1 << 40, k),
        sse=rng.random(k),
        history={name: [1.0, 2.0, 3.0] for name in HISTORY},
        attributes={
            **{"k": k, "mse": 0.5, "note": "text", "heldout_mse": None},
            **{"machine": {"threads": 2}, "converged": True},
        },
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "dictionaries.zarr"
    create_dictionaries(path, {"dataset": "digits"})
    return path


@pytest.mark.parametrize("channels", [1, 3])
def test_every_field_round_trips(tree: Path, channels: int) -> None:
    written = example(4, channels)
    assert write_dictionary(tree, written) == tree / "k00004"
    opened = open_dictionaries(tree)
    assert opened.attrs == {
        "kind": "dictionaries",
        "schema": 2,
        "complete": 1,
        "dataset": "digits",
    }
    found = opened[group_name(4)]
    axes = ("atom", "row", "col", "channel")[: written.centroids.ndim]
    assert found["centroids"].dims == axes
    assert found["centroids"].dtype == np.float32
    np.testing.assert_array_equal(found["centroids"], written.centroids)
    np.testing.assert_array_equal(found["count"], written.count)
    np.testing.assert_array_equal(found["sse"], written.sse)
    for name in HISTORY:
        np.testing.assert_array_equal(found[name], written.history[name])
    assert parsed(found.attrs) | {"heldout_mse": None} == written.attributes | {"complete": True}


def test_dictionaries_are_listed_by_size_and_seen_when_added_later(tree: Path) -> None:
    assert finished_dictionaries(tree) == {}
    for k in (10, 2, 100, 100_000):
        write_dictionary(tree, example(k))
    assert list(finished_dictionaries(tree)) == [2, 10, 100, 100_000]
    assert list(open_dictionaries(tree).children) == ["k00002", "k00010", "k00100", "k100000"]


def test_a_dictionary_is_never_overwritten(tree: Path) -> None:
    write_dictionary(tree, example(4))
    with pytest.raises(OSError, match="not empty"):
        write_dictionary(tree, example(4))
    assert [path.name for path in tree.parent.iterdir()] == [tree.name]  # no staging left


def test_a_failed_write_leaves_nothing(tree: Path) -> None:
    bad = example(4)
    bad.attributes["object"] = object()
    with pytest.raises(TypeError):
        write_dictionary(tree, bad)
    assert list(open_dictionaries(tree).children) == []
    assert [path.name for path in tree.parent.iterdir()] == [tree.name]


def test_other_schemas_and_absent_trees_are_refused(tree: Path) -> None:
    zarr.open_group(tree, mode="r+").attrs["schema"] = 1
    with pytest.raises(IntegrityError, match="schema version 1 where 2"):
        open_dictionaries(tree)
    with pytest.raises(InputError, match="run sweep first"):
        open_dictionaries(tree.parent / "absent.zarr")
    (tree / "zarr.json").write_text("{")
    with pytest.raises(IntegrityError, match="damaged metadata"):
        finished_dictionaries(tree)


def test_dictionaries_are_found_by_k_and_by_name(tree: Path) -> None:
    for k in (50, 4):
        write_dictionary(tree, example(k))
    for path in (tree, str(tree.parent)):  # the experiment's folder, too
        opened = open_dictionaries(path)
        assert list(opened.by_k) == [4, 50]
        for key in (50, np.int64(50), "k00050"):
            assert opened[key].sizes["atom"] == 50
            assert key in opened
            assert opened.get(key).name == "k00050"
        assert list(opened) == list(opened.children) == ["k00004", "k00050"]
        assert 5 not in opened
        assert opened.get(5) is None
    with pytest.raises(InputError, match="no dictionary of K = 5: there are 4, 50"):
        opened[5]
    with pytest.raises(KeyError):
        opened["k00005"]
    assert opened.copy()[4].name == "k00004"
