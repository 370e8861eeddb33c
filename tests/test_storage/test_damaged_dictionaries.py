"""Bits of dictionaries flipped, lengths cut, scores that lie: verify and readers notice it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from storage import IntegrityError, open_dictionaries
from storage.dictionary_store import (
    HISTORY,
    Dictionary,
    check_dictionaries,
    create_dictionaries,
    finished_dictionaries,
    read_centroids,
    write_dictionary,
)
from storage.verification import verify_dictionaries
from tests.damage import DAMAGES, files_of, refuses, restore, unnoticed

pytestmark = pytest.mark.usefixtures("chunks_read_by")


def example(k: int, digest: str = "d1", **changes: object) -> Dictionary:
    rng = np.random.default_rng(k)
    count, sse = np.full(k, 6), rng.random(k)
    attributes = {
        "k": k,
        "mse": float(sse.sum()) / (6 * k * 6),
        "sse": float(sse.sum()),
        "live": k,
        "passes": 2,
        "digest": digest,
    }
    return Dictionary(
        centroids=rng.random((k, 2, 3), np.float32),
        count=count,
        sse=sse,
        history={name: [1.0, 2.0] for name in HISTORY},
        attributes=attributes | changes,
    )


ROOT = {"digest": "d1", "train_store": "store-1", "n_rows": 12, "dim": 6}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "dictionaries.zarr"
    create_dictionaries(path, ROOT)
    write_dictionary(path, example(2))
    return path


def load_all(path: Path) -> None:
    for node in open_dictionaries(path).children.values():
        node.load()


def bad_dictionaries(path: Path) -> list[str]:
    return [finding.reason for finding in verify_dictionaries(path) if finding]


def dictionary_files(path: Path) -> Iterator[Path]:
    yield from (path / name for name in files_of(path))


@pytest.mark.parametrize(
    ("metadata", "chunks"), [(185, 25), pytest.param(1, 7, marks=pytest.mark.slow)]
)
def test_flipped_bits_and_cut_files_of_dictionaries_are_noticed(
    tree: Path, metadata: int, chunks: int
) -> None:
    # the seal of metadata is text, of which one bit is not as good as another; a chunk's CRC32C is
    def notices() -> bool:
        return refuses(load_all, tree) and bool(bad_dictionaries(tree))

    for file in dictionary_files(tree):
        step = metadata if file.name == "zarr.json" else chunks
        assert unnoticed(file, step, notices) == []
    assert not bad_dictionaries(tree)


@pytest.mark.parametrize("damage", DAMAGES)
def test_dictionaries_are_verified_and_refused_by_name(tree: Path, damage: str) -> None:
    write_dictionary(tree, example(2 + 1, mse=1.0))  # not that of its errors
    assert len(bad_dictionaries(tree)) == 2  # nor does it count all rows
    shutil.rmtree(tree / "k00003")
    for file in list(dictionary_files(tree)):
        whole = file.read_bytes()
        DAMAGES[damage](file, np.random.default_rng(0))
        (reason,) = bad_dictionaries(tree)
        assert str(tree) in reason
        with pytest.raises(IntegrityError, match="run the same sweep again"):
            check_dictionaries(tree, ROOT)
        restore(file, whole)
    check_dictionaries(tree, ROOT)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"live": 1}, "has 2 live centroids where 1 are stated"),
        ({"sse": 5.0}, "where 5.0 is stated"),
        ({"mse": 5.0}, "where 5.0 is stated"),
        ({"passes": 3}, r"history of [2] passes where 3 are stated"),
    ],
)
def test_scores_that_are_not_those_of_the_arrays_are_found(
    tree: Path, changes: dict[str, object], reason: str
) -> None:
    shutil.rmtree(tree / "k00002")
    write_dictionary(tree, example(2, **changes))
    (found,) = bad_dictionaries(tree)
    assert reason in found


def test_arrays_that_cannot_be_are_found(tree: Path) -> None:
    shutil.rmtree(tree / "k00002")
    dictionary = example(2)
    dictionary.centroids[0, 1, 2] = np.nan
    dictionary.count[:] = (13, -1)
    write_dictionary(tree, dictionary)
    (first, second) = bad_dictionaries(tree)
    assert "holds 1 centroid values not finite" in first
    assert "counts 12 rows where 12 are stated, some below zero" in second


def test_what_does_not_belong_to_the_dictionaries_is_named(tree: Path) -> None:
    (tree / "k00002" / "centroids" / "note").touch()
    (tree / "stray").mkdir()
    shutil.copy(tree / "zarr.json", tree / "stray" / "zarr.json")
    reasons = bad_dictionaries(tree)
    assert [reason.split()[0] for reason in reasons] == [
        f"{tree}/k00002/centroids/note",
        f"{tree}/stray",
    ]
    assert list(open_dictionaries(tree).children) == ["k00002"]


def test_dictionaries_of_another_store_are_refused(tree: Path, tmp_path: Path) -> None:
    for changed in ({"digest": "d2"}, {"train_store": "store-2"}, {"source": {"fingerprint": "f"}}):
        for check in (check_dictionaries, create_dictionaries):
            with pytest.raises(
                IntegrityError, match=r"were fitted on another store .* another OUT"
            ):
                check(tree, ROOT | changed)
    # one group of another experiment, or under another K's name
    write_dictionary(tree, example(4, digest="d2"))
    for read in (finished_dictionaries, open_dictionaries):
        with pytest.raises(IntegrityError, match="k00004 was fitted on another store"):
            read(tree)
    (tree / "k00004").rename(tmp_path / "elsewhere")
    shutil.copytree(tree / "k00002", tree / "k00005")
    with pytest.raises(IntegrityError, match="k00005 holds 2 centroids"):
        read_centroids(tree, 5)
    np.testing.assert_array_equal(read_centroids(tree, 2)[0], example(2).centroids)


def test_an_unfinished_dictionary_is_refused(tree: Path) -> None:
    file = tree / "k00002" / "zarr.json"
    text = file.read_text()
    start, end = text.index('    "checksums"'), text.index('    "seal"')
    unsealed = text[:start] + text[end:].split("\n", 1)[1]
    file.write_text(unsealed.replace('"complete": true,', '"complete": false'))
    with pytest.raises(IntegrityError, match="k00002 is unfinished: delete its folder"):
        open_dictionaries(tree)
