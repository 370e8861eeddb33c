"""Preprocessing against plain numpy, and fits of preprocessed patches."""

import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from analysis.export.export_dictionary import export_dictionary
from pipeline import Preprocessing, StreamingKMeans, SweepOptions, assign, sweep
from pipeline.config import FitOptions
from pipeline.kmeans import nested
from pipeline.rows.source import ArraySource
from pipeline.runtime.progress import rounded
from pipeline.upkeep.sweep_result import in_words
from storage import (
    InputError,
    MemoryBudgetError,
    finished_dictionaries,
    load_dictionary,
    open_dictionaries,
    open_patches,
)
from storage.dictionary_store import read_centroids, read_preprocessing

RNG = np.random.default_rng(1)
SMOOTH = np.cumsum(RNG.normal(size=(500, 12)), axis=1)
ROWS = {
    "uint8": np.clip(SMOOTH * 20 + 128, 0, 255).astype(np.uint8),
    "uint16": np.clip(SMOOTH * 5000 + 30000, 0, 65535).astype(np.uint16),
    "float32": (SMOOTH * 0.1 + 0.5).astype(np.float32),
    "float64": SMOOTH * 0.1 + 1e6,
}


def learned(rows: np.ndarray, span: float = 255, **options: object) -> Preprocessing:
    found = Preprocessing.learn(ArraySource(rows), FitOptions.checked(**options), span)
    assert found is not None
    return found


def contrast_of(rows: np.ndarray, floor: float) -> np.ndarray:
    wide = rows.astype(np.float64)
    apart = wide - wide.mean(1, keepdims=True)
    return apart / np.sqrt(np.square(apart).mean(1, keepdims=True) + floor)


@pytest.mark.parametrize("dtype", ROWS)
def test_contrast_is_what_numpy_computes(dtype: str) -> None:
    rows, span = ROWS[dtype], 255 if dtype == "uint8" else 4095
    found = learned(rows, span, preprocess="contrast", contrast_floor=3)
    expected = contrast_of(rows, 3 * (span / 255) ** 2)
    assert found.rows(rows).dtype == np.float32
    np.testing.assert_allclose(found.rows(rows), expected, atol=2e-6)
    variance = rows.astype(np.float64).var(axis=0).mean()
    assert found.variance == pytest.approx(variance, rel=1e-9)
    assert found.level == pytest.approx(rows.mean(dtype=np.float64))


@pytest.mark.parametrize("dtype", ROWS)
def test_whitened_rows_have_the_covariance_that_epsilon_leaves(dtype: str) -> None:
    rows = ROWS[dtype]
    found = learned(rows, preprocess="zca", contrast_floor=1e-3, zca_epsilon=0.01)
    plain = contrast_of(rows, 1e-3)
    values, vectors = np.linalg.eigh(np.cov(plain.T, bias=True))
    values = np.maximum(values, 0)
    expected = (plain - plain.mean(0)) @ (vectors / np.sqrt(values + 0.01)) @ vectors.T
    np.testing.assert_allclose(found.rows(rows), expected, atol=2e-4)
    covariance = np.cov(found.rows(rows).T.astype(np.float64), bias=True)
    np.testing.assert_allclose(
        covariance, (vectors * (values / (values + 0.01))) @ vectors.T, atol=1e-4
    )


@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
@pytest.mark.parametrize("preprocess", ["none", "contrast", "zca"])
def test_a_patch_is_restored_from_itself(preprocess: str, distance: str) -> None:
    if (preprocess, distance) == ("none", "euclidean"):
        assert Preprocessing.learn(ArraySource(ROWS["uint8"]), FitOptions()) is None
        return
    rows = ROWS["uint8"]
    found = learned(rows, preprocess=preprocess, distance=distance)
    centroids, own = found.rows(rows), np.arange(len(rows))
    np.testing.assert_allclose(found.restored(rows, centroids, own), rows, atol=5e-3)
    assert found.squared_errors(rows, centroids, own).max() < 1e-3
    if distance == "cosine":
        np.testing.assert_allclose(np.linalg.norm(centroids, axis=1), 1, atol=1e-6)


def test_a_row_depends_on_nothing_but_itself() -> None:
    rows = np.concatenate([ROWS["uint8"]] * 60)  # several pieces, on several threads
    found = learned(ROWS["uint8"], preprocess="zca", distance="cosine")
    whole = found.rows(rows)
    for start, length in ((0, 1), (7, 13), (499, 3), (20_000, 1001)):
        part = found.rows(rows[start : start + length])
        assert part.tobytes() == whole[start : start + length].tobytes()


def test_flat_patches_stay_zero() -> None:
    rows = np.repeat(np.arange(0, 250, 10, dtype=np.uint8)[:, None], 9, axis=1)
    for distance in ("euclidean", "cosine"):
        found = learned(rows, preprocess="contrast", contrast_floor=0, distance=distance)
        assert not found.rows(rows).any()
        restored = found.restored(rows, np.zeros((1, 9), np.float32), np.zeros(25, int))
        np.testing.assert_allclose(restored, rows)


def test_what_is_stored_is_read_again_to_the_last_bit() -> None:
    found = learned(ROWS["uint8"], preprocess="zca", distance="cosine")
    again = Preprocessing.stored(json.loads(json.dumps(found.attributes)), found.arrays)
    assert again is not None
    assert again.digest == found.digest
    assert again.rows(ROWS["uint8"]).tobytes() == found.rows(ROWS["uint8"]).tobytes()
    with pytest.raises(KeyError, match="whitening"):
        Preprocessing.stored(found.attributes, {"feature_mean": found.feature_mean})


@pytest.mark.parametrize("mode", ["full", "nested", "minibatch"])
def test_by_cosine_centroids_are_directions_of_their_rows(mode: str) -> None:
    options = {"preprocess": "contrast", "distance": "cosine", "mode": mode, "random_state": 3}
    km = StreamingKMeans(12, **options).fit(ROWS["float32"])
    assert km.preprocessing_ is not None
    np.testing.assert_allclose(np.linalg.norm(km.cluster_centers_, axis=1), 1, atol=1e-5)
    rows, labels = km.preprocessing_.rows(ROWS["float32"]), km.labels_
    cosines = rows.astype(np.float64) @ km.cluster_centers_.T.astype(np.float64)
    np.testing.assert_allclose(cosines[np.arange(500), labels], cosines.max(1), atol=1e-6)
    own = cosines[np.arange(500), labels]
    assert km.inertia_ == pytest.approx((2 - 2 * own).sum(), rel=1e-4)
    if mode == "full":  # at rest: each is the direction of the sum of its rows
        for k in range(12):
            total = rows[labels == k].sum(axis=0, dtype=np.float64)
            direction = total / np.linalg.norm(total)
            assert direction @ km.cluster_centers_[k] > 1 - 1e-3


def test_momentum_stays_on_the_sphere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nested, "FIRST_ROWS", 1 << 8)
    rows = np.concatenate([ROWS["float32"] + 0.01 * i for i in range(8)]).astype(np.float32)
    km = StreamingKMeans(20, distance="cosine", random_state=0).fit(rows)
    np.testing.assert_allclose(np.linalg.norm(km.cluster_centers_, axis=1), 1, atol=1e-5)


def options_of(out: Path, **more: object) -> SweepOptions:
    return SweepOptions.checked(**{"k": "4,9", "out": out, "max_iter": 4, "breathing": 1} | more)


def test_a_sweep_stores_what_it_did_and_scores_in_pixels(tmp_path: Path) -> None:
    done = sweep(options_of(tmp_path, preprocess="zca"))
    tree = Path(done["experiment"]) / "dictionaries.zarr"
    facts = finished_dictionaries(tree)[9]
    found = Preprocessing.stored(*read_preprocessing(tree, 9))
    assert found is not None
    assert (found.kind, found.distance, found.floor, found.epsilon) == ("zca", "euclidean", 10, 0.1)
    (train,) = (tmp_path / "patches").glob("digits-train*.zarr")
    patches = open_patches(train).read_chunk(0)
    centroids = read_centroids(tree, 9)[0].reshape(9, -1)
    rows = found.rows(patches)
    labels = assign(rows, centroids)
    apart = rows - centroids[labels].astype(np.float64)
    assert facts["mse"] == pytest.approx(np.square(apart).mean(), rel=1e-6)
    errors = np.square(found.restored(patches, centroids, labels) - patches)
    assert facts["pixel_mse"] == pytest.approx(errors.mean(), rel=1e-9)
    entry = done["dictionaries"][1]
    assert (entry["pixel_mse"], entry["heldout_pixel_mse"]) == (
        facts["pixel_mse"],
        facts["heldout_pixel_mse"],
    )
    assert facts["heldout_pixel_mse"] != facts["pixel_mse"]
    told = in_words(done["dictionaries"])
    assert rounded(facts["pixel_mse"]) in told
    assert rounded(facts["heldout_pixel_mse"]) in told
    assert told.endswith("MSE in pixels, of patches that keep their own brightness and contrast")


def test_all_dictionaries_of_an_experiment_share_one_preprocessing(tmp_path: Path) -> None:
    first = sweep(options_of(tmp_path, preprocess="zca", k="4"))
    tree = Path(first["experiment"]) / "dictionaries.zarr"
    again = sweep(options_of(tmp_path, preprocess="zca", k="4,9"))
    assert again["experiment"] == first["experiment"]
    assert [one["reused"] for one in again["dictionaries"]] == [True, False]
    four, nine = (Preprocessing.stored(*read_preprocessing(tree, k)) for k in (4, 9))
    assert four is not None
    assert nine is not None
    assert four.digest == nine.digest


def test_options_of_preprocessing_tell_experiments_apart_and_others_keep_their_name() -> None:
    plain = FitOptions().in_use()
    assert not {"preprocess", "contrast_floor", "zca_epsilon", "distance"} & set(plain)
    given = [
        {"preprocess": "contrast"},
        {"preprocess": "contrast", "contrast_floor": 1.0},
        {"preprocess": "zca"},
        {"preprocess": "zca", "zca_epsilon": 1.0},
        {"distance": "cosine"},
    ]
    digests = {FitOptions.checked(**options).digest() for options in [{}, *given]}
    assert len(digests) == 6
    # what has no part in the numbers has none in the name
    assert FitOptions(zca_epsilon=2.0).digest() == FitOptions().digest()
    assert FitOptions(contrast_floor=2.0).digest() == FitOptions().digest()


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["euclidean", "cosine"])
def test_workers_learn_what_this_process_does(distance: str, tmp_path: Path) -> None:
    given = {"preprocess": "zca", "distance": distance, "mode": "full", "k": "4"}
    given["memory"] = "3GiB"  # this process has all tests' code
    found, scores = [], []
    for scheduler in ("processes:1", "processes:2"):
        done = sweep(options_of(tmp_path / scheduler[-1], scheduler=scheduler, **given))
        found.append(read_centroids(Path(done["experiment"]) / "dictionaries.zarr", 4)[0])
        scores.append(done["dictionaries"][0]["pixel_mse"])
    assert found[0].tobytes() == found[1].tobytes()
    assert scores[0] == scores[1] > 0


def test_the_estimator_prepares_rows_by_itself(tmp_path: Path) -> None:
    rows = ROWS["uint8"]
    km = StreamingKMeans(7, preprocess="zca", random_state=0).fit(rows)
    assert km.preprocessing_ is not None
    met = km.preprocessing_.rows(rows)
    np.testing.assert_array_equal(km.predict(rows), assign(met, km.cluster_centers_))
    np.testing.assert_array_equal(km.labels_, km.predict(rows))
    apart = met[:, None].astype(np.float64) - km.cluster_centers_
    np.testing.assert_allclose(km.transform(rows), np.linalg.norm(apart, axis=2), rtol=1e-4)
    assert km.score(rows) == pytest.approx(-np.square(apart).sum(2).min(1).sum(), rel=1e-6)
    km.save(tmp_path / "km.npz")
    again = StreamingKMeans.load(tmp_path / "km.npz")
    assert again.get_params() == km.get_params()
    np.testing.assert_array_equal(again.predict(rows), km.labels_)
    assert again.preprocessing_ is not None
    assert again.preprocessing_.digest == km.preprocessing_.digest
    assert load_dictionary(tmp_path / "km.npz")["whitening"].shape == (12, 12)
    with pytest.raises(InputError, match="save the estimator"):
        km.to_sklearn()


def test_a_stream_keeps_the_preprocessing_of_its_first_rows() -> None:
    km = StreamingKMeans(5, preprocess="contrast", distance="cosine", random_state=0)
    km.partial_fit(ROWS["uint8"][:300])
    first = km.preprocessing_
    km.partial_fit(ROWS["uint8"][300:])
    assert km.preprocessing_ is first
    np.testing.assert_allclose(np.linalg.norm(km.cluster_centers_, axis=1), 1, atol=1e-5)
    assert km.counts_.sum() == 500


@pytest.mark.parametrize("kind", ["none", "contrast", "zca"])
def test_by_cosine_the_gain_is_the_length_along_the_centroid(kind: str) -> None:
    rows = ROWS["uint8"]
    found, labels = learned(rows, preprocess=kind, distance="cosine"), np.arange(500) % 50
    centroids = found.rows(rows[::10])
    made = rows.astype(np.float64) if kind == "none" else contrast_of(rows, 10)
    if kind == "zca":
        made = (made - found.feature_mean) @ found.whitening
    _, spread, gain = found.amplitudes(rows, centroids, labels).T
    along = np.maximum((made * centroids[labels]).sum(1), 0)
    np.testing.assert_allclose(gain, along * spread, rtol=1e-5, atol=1e-3)


def test_whitening_is_the_same_on_any_number_of_cores() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (900, 1024)).astype(np.uint8)
    digests = set()
    for cores in (1, 2):
        with threadpool_limits(cores, "blas"):
            digests.add(learned(rows, preprocess="zca").digest)
    assert len(digests) == 1


def test_whitening_that_would_pass_the_cap_is_refused_before_it_begins(tmp_path: Path) -> None:
    rows = RNG.integers(0, 256, (4, 4096)).astype(np.uint8)  # a covariance of 128 MiB
    with pytest.raises(MemoryBudgetError, match=r"whitening patches of 4,096 values needs .*GiB"):
        StreamingKMeans(2, preprocess="zca", memory="1GiB").fit(rows)
    np.save(tmp_path / "noise.npy", rows.reshape(4, 64, 64))
    given = {"dataset": str(tmp_path / "noise.npy"), "patch": 64, "k": "2", "memory": "1GiB"}
    with pytest.raises(MemoryBudgetError, match="whitening patches of 4,096 values"):
        sweep(options_of(tmp_path, preprocess="zca", **given))


def test_a_stream_that_goes_on_from_an_exported_dictionary_stays_on_the_sphere(
    tmp_path: Path,
) -> None:
    done = sweep(options_of(tmp_path, preprocess="contrast", distance="cosine", k="4"))
    tree = open_dictionaries(Path(done["experiment"]) / "dictionaries.zarr")
    export_dictionary(tree["k00004"], "npz", tmp_path / "four.npz")
    km = StreamingKMeans.load(tmp_path / "four.npz")
    assert (km.preprocess, km.distance) == ("contrast", "cosine")
    km.partial_fit(RNG.integers(0, 256, (500, 25)).astype(np.uint8))
    np.testing.assert_allclose(np.linalg.norm(km.cluster_centers_, axis=1), 1, atol=1e-5)
