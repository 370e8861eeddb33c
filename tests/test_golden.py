"""The numbers and names that a sweep with the defaults makes.

A store or a dictionary that users have must be found again, and learned again bit for bit. Stores
are those of before the code was rearranged; numbers changed since: when steps got momentum, and
twice as centroids were moved more often, on fewer rows.
"""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline import SweepOptions, sweep
from storage import group_name, open_dictionaries


class Golden(NamedTuple):
    """What one run left.

    stores: name of a patch store -> digest of the bytes of all its chunks.
    dictionaries: K -> (SSE, held-out MSE, passes, rows seen, digest of the centroids, digest of
        counts, SSE by centroid and MSE by pass).
    """

    experiment: str
    stores: dict[str, str]
    dictionaries: dict[int, tuple[float, float, int, int, str, str]]


DIGITS = Golden(
    "digits-5x5-s1-t0-nested-b7bf10ef",
    {
        "digits-train-5x5-s1-t0-6a56917a22": "a0b6a68e",
        "digits-test-5x5-s1-t0-91e3a5fba7": "de939cf2",
    },
    {
        10: (3228967077.200553, 5276.106132025108, 277, 6648000, "b32e15a6", "849c22c1"),
        20: (2773745893.2170353, 4516.13011932504, 274, 6576000, "68d5937a", "2dc7a377"),
        50: (2176689556.950855, 3592.4893650310105, 274, 6576000, "4b278fd5", "f6ceeda8"),
    },
)
MNIST = Golden(
    "mnist-5x5-s1-t0-nested-24d2e133",
    {"mnist-train-5x5-s1-t0-52bedd0852": "f952a53a", "mnist-test-5x5-s1-t0-c09ff82035": "d94b197b"},
    {
        50: (1119593987341.747, 2212.8504253507367, 555, 371539198, "64a36bae", "bdf3e8d9"),
        200: (663458459785.2524, 1305.11321674372, 414, 301120832, "42048177", "35733cdc"),
        500: (483126123162.68445, 949.5439844358322, 376, 386438297, "c728537b", "280c3997"),
    },
)


def short_digest(*parts: bytes) -> str:
    """The first 8 hexadecimal digits of the SHA-256 of all parts."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:8]


def digest_of_chunks(store: Path) -> str:
    """Of the names and bytes of all files of a store but its metadata, which hold versions."""
    files = sorted(p for p in store.rglob("*") if p.is_file() and p.name != "zarr.json")
    return short_digest(
        *(part for p in files for part in (str(p.relative_to(store)).encode(), p.read_bytes()))
    )


def made_by(result: dict[str, Any]) -> Golden:
    """What lies on disk after a sweep."""
    experiment = Path(result["experiment"])
    tree = open_dictionaries(experiment / "dictionaries.zarr")
    stores = [tree.attrs["train_store"], tree.attrs["test_store"]]
    dictionaries = {}
    for entry in result["dictionaries"]:
        node = tree[group_name(entry["k"])]
        numbers = (node.attrs[name] for name in ("sse", "heldout_mse", "passes", "rows_seen"))
        centroids, *rest = (
            node[name].to_numpy().tobytes() for name in ("centroids", "count", "sse", "mse")
        )
        dictionaries[entry["k"]] = (*numbers, short_digest(centroids), short_digest(*rest))
    chunks = {s: digest_of_chunks(experiment.parent / "patches" / f"{s}.zarr") for s in stores}
    return Golden(experiment.name, chunks, dictionaries)


def test_the_digits_are_learned_bit_for_bit(digits_swept: dict[str, Any]) -> None:
    assert made_by(digits_swept) == DIGITS


@pytest.mark.slow
def test_mnist_is_learned_bit_for_bit(mnist_dir: Path, tmp_path: Path) -> None:
    options = SweepOptions(
        dataset="mnist", data=mnist_dir, k=tuple(MNIST.dictionaries), out=tmp_path
    )
    assert made_by(sweep(options)) == MNIST
