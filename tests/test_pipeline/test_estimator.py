import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import dask.array
import joblib
import numpy as np
import pytest
import xarray
import zarr
from sklearn.utils.estimator_checks import parametrize_with_checks

from pipeline import StreamingKMeans, assign
from pipeline.estimator import StreamingKMeans as Estimator
from pipeline.extraction.extract import extract
from storage import InputError, MemoryBudgetError, PatchSpec, PatchStore
from tests.oracles import squared_distances


@parametrize_with_checks([Estimator(n_clusters=3, breathing=1)])
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PatchStore:
    folder = tmp_path_factory.mktemp("digits")
    return extract("digits", patch=PatchSpec(3, 3), out=folder)[0]


@pytest.fixture(scope="module")
def rows(store: PatchStore) -> np.ndarray:
    return np.concatenate([store.read_chunk(i) for i in range(store.n_chunks)])


def test_every_kind_of_data_gives_the_same_fit(store: PatchStore, rows: np.ndarray) -> None:
    kinds = [
        store,
        rows,
        dask.array.from_array(rows, chunks=(999, 9)),
        zarr.array(rows, chunks=(5000, 9)),
        xarray.DataArray(rows, dims=("patch", "pixel")),
        store.to_xarray(),
    ]
    fits = [StreamingKMeans(20, max_iter=5, random_state=1).fit(kind) for kind in kinds]
    labels = fits[0].predict(rows)
    assert labels.dtype == np.int32
    for kind, fit in zip(kinds, fits, strict=True):
        np.testing.assert_array_equal(fit.cluster_centers_, fits[0].cluster_centers_)
        np.testing.assert_array_equal(fit.predict(kind), labels)
        assert fit.inertia_ == fits[0].inertia_
        np.testing.assert_array_equal(fit.labels_, labels)


def test_what_is_kept_of_a_fit_is_of_the_last(rows: np.ndarray) -> None:
    km = StreamingKMeans(4, max_iter=3, random_state=0).fit(rows[:400])
    km.fit(dask.array.from_array(rows[:700], chunks=(100, 9)))
    assert pickle.loads(pickle.dumps(km)).counts_.sum() == 700
    assert not hasattr(pickle.loads(pickle.dumps(km)), "labels_")
    np.testing.assert_array_equal(km.labels_, km.predict(rows[:700]))
    assert isinstance(km.labels_, np.memmap)
    km.partial_fit(rows[700:800])
    for gone in ("labels_", "stopped_", "history_"):
        assert not hasattr(km, gone)


@pytest.mark.parametrize("wrong", ["type", "value"])
def test_rows_that_are_refused_add_nothing_to_a_stream(
    rows: np.ndarray, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.patch_spec.CHUNK_BYTES", 100 * 9 * 4)
    first = rows[:400].astype(np.float32)
    km = StreamingKMeans(4, random_state=0).partial_fit(first)
    before = deepcopy(vars(km))
    bad = first.astype(np.float64)
    if wrong == "value":
        bad = first.copy()
        bad[350] = np.nan  # in a later block
    with pytest.raises(InputError):
        km.partial_fit(dask.array.from_array(bad, chunks=(100, 9)))
    for name in ("cluster_centers_", "counts_", "inertia_", "n_iter_"):
        np.testing.assert_array_equal(vars(km)[name], before[name])
    assert km.partial_fit(first.astype(">f4")).counts_.sum() == 800  # a byte order is no type


def test_a_stream_goes_on_from_a_file_that_is_mapped(rows: np.ndarray, tmp_path: Path) -> None:
    km = StreamingKMeans(4, random_state=0).partial_fit(rows[:400])
    joblib.dump(km, tmp_path / "km.joblib")
    mapped = joblib.load(tmp_path / "km.joblib", mmap_mode="r")
    np.testing.assert_array_equal(
        mapped.partial_fit(rows[400:800]).cluster_centers_,
        km.partial_fit(rows[400:800]).cluster_centers_,
    )


def test_no_scheduler_is_this_process(rows: np.ndarray) -> None:
    assert StreamingKMeans(3, scheduler=None, max_iter=1).fit(rows).n_iter_ == 1


def test_attributes_belong_to_the_centroids(rows: np.ndarray) -> None:
    km = StreamingKMeans(15, mode="full", max_iter=4, random_state=0).fit(rows)
    distances = squared_distances(rows, km.cluster_centers_)
    assert km.cluster_centers_.dtype == np.float32
    assert km.inertia_ == pytest.approx(distances.min(1).sum(), rel=1e-7)
    np.testing.assert_array_equal(km.counts_, np.bincount(distances.argmin(1), minlength=15))
    assert km.n_iter_ == 4
    assert km.history_["mse"][-1] == km.inertia_ / rows.size
    assert km.score(rows) == pytest.approx(-km.inertia_)
    np.testing.assert_allclose(km.transform(rows[:50]), np.sqrt(distances[:50]), rtol=1e-4)


def test_random_state_decides(rows: np.ndarray) -> None:
    one, same, other, drawn = (
        StreamingKMeans(9, max_iter=2, random_state=state).fit(rows).cluster_centers_
        for state in (4, 4, 5, None)
    )
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one, drawn)


def test_every_parameter_changes_something(rows: np.ndarray) -> None:
    def centres(**parameters: Any) -> np.ndarray:
        defaults: dict[str, Any] = {"max_iter": 3, "random_state": 0}
        return StreamingKMeans(12, **(defaults | parameters)).fit(some).cluster_centers_

    some = rows[::4]
    base = centres()
    far = np.concatenate([rows[:11], np.full((1, 9), 1e5)])
    assert not np.array_equal(base, centres(init="random"))
    assert not np.array_equal(base, centres(init=rows[:12]))
    assert not np.array_equal(base, centres(mode="minibatch"))
    assert not np.array_equal(base, centres(mode="full"))
    assert not np.array_equal(centres(max_iter=30), centres(max_iter=30, breathing=0))
    still = {"breathing": 0, "max_iter": 9}
    assert not np.array_equal(centres(**still), centres(**still, min_gain=0.5))
    assert not np.array_equal(base, centres(max_iter=1))
    assert not np.array_equal(base, centres(tol=1e3))
    assert not np.array_equal(
        centres(mode="minibatch", batch_size=100), centres(mode="minibatch", batch_size=9000)
    )
    assert not np.array_equal(centres(init=far, empty="random"), centres(init=far, empty="split"))
    np.testing.assert_array_equal(base, centres(engine="torch", device="cpu", memory="4GiB"))


def test_init_may_hold_fewer_rows_than_clusters(rows: np.ndarray) -> None:
    given = rows[:5].astype(np.float32)
    km = StreamingKMeans(8, init=given, max_iter=1, random_state=0).fit(rows)
    assert km.cluster_centers_.shape == (8, 9)
    for wrong in (rows[:9], rows[:5, :4], rows[0]):
        with pytest.raises(InputError, match="init has the shape"):
            StreamingKMeans(8, init=wrong).fit(rows)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_clusters": 0}, "n_clusters=0"),
        ({"n_clusters": 2.5}, "n_clusters=2.5"),
        ({"mode": "online"}, "mode 'online'"),
        ({"init": "warm"}, "no init 'warm': use k-means"),
        ({"min_gain": 2.0}, "min_gain 2.0"),
        ({"breathing": -1}, "breathing -1"),
        ({"engine": "gpu"}, "no engine 'gpu'"),
        ({"device": "tpu"}, "no device 'tpu'"),
        ({"memory": "much"}, "memory='much'"),
        ({"device_memory": "80%"}, "device_memory='80%'"),
        ({"n_clusters": 10**6}, "less than n_clusters"),
    ],
)
def test_bad_parameters_are_value_errors(
    rows: np.ndarray, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        StreamingKMeans(**parameters).fit(rows)


def test_memory_cap_is_kept_or_refused(rows: np.ndarray) -> None:
    with pytest.raises(MemoryBudgetError, match=r"more than the cap of 50\.0 MiB"):
        StreamingKMeans(3, memory="50MiB").fit(rows)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_large_integers_are_scored_right(dtype: type) -> None:
    large = np.random.default_rng(0).integers(10**9, 10**9 + 10**6, (500, 3)).astype(dtype)
    km = StreamingKMeans(3, random_state=0).fit(large)
    expected = squared_distances(large, km.cluster_centers_).min(1).sum()
    assert km.inertia_ == pytest.approx(expected, rel=1e-9)


def test_not_a_number_is_refused_in_data_and_init(rows: np.ndarray) -> None:
    lazy = dask.array.from_array(rows, chunks=(999, 9)) * np.float32(1)
    lazy = dask.array.where(lazy > 250, np.nan, lazy)
    with pytest.raises(InputError, match="infinite values or NaN"):
        StreamingKMeans(3).fit(lazy)
    with pytest.raises(InputError, match="init holds"):
        StreamingKMeans(2, init=np.full((2, 9), np.nan)).fit(rows)


def test_a_stream_stays_of_one_kind(rows: np.ndarray) -> None:
    km = StreamingKMeans(3, random_state=0).partial_fit(rows)
    with pytest.raises(InputError, match="do not go on with a stream of uint8"):
        km.partial_fit(rows.astype(np.float32))


def test_assign_checks_what_it_is_given(rows: np.ndarray) -> None:
    with pytest.raises(InputError, match="no engine 'x'"):
        assign(rows, rows[:2].astype(np.float32), engine="x")
    with pytest.raises(InputError, match="do not match"):
        assign(rows, rows[:2, :4].astype(np.float32))
    with pytest.raises(InputError, match="holds nothing"):
        assign(rows[:0], rows[:2].astype(np.float32))


def test_partial_fit_learns_from_a_stream(rows: np.ndarray) -> None:
    km = StreamingKMeans(20, random_state=0)
    parts = np.array_split(rows, 6)
    for part in parts:
        km.partial_fit(part)
    assert km.counts_.sum() == len(rows)
    assert km.n_iter_ == 6
    # each centre is the mean of the rows it took, all of them together those of the stream
    weighted = (km.cluster_centers_ * km.counts_[:, None]).sum(0)
    np.testing.assert_allclose(weighted, rows.sum(0), rtol=1e-5)
    full = StreamingKMeans(20, breathing=0, random_state=0).fit(rows)
    assert full.score(rows) >= km.score(rows) >= 1.25 * full.score(rows)
    with pytest.raises(ValueError, match="features"):
        km.partial_fit(rows[:, :4])


def test_wrong_width_is_refused(store: PatchStore, rows: np.ndarray) -> None:
    km = StreamingKMeans(3, max_iter=1).fit(rows[:, :4])
    with pytest.raises(InputError, match="9 columns where 4 are expected"):
        km.predict(store)


def test_former_parameters_are_taken_for_one_version(rows: np.ndarray) -> None:
    fields = {"max_iter": 3, "random_state": 0}
    with pytest.warns(FutureWarning, match="option moves is called breathing now"):
        former = StreamingKMeans(9, moves=1, **fields).fit(rows)
    new = StreamingKMeans(9, breathing=1, **fields).fit(rows)
    np.testing.assert_array_equal(former.cluster_centers_, new.cluster_centers_)
    with pytest.raises(ValueError, match="no option 'target'"):
        StreamingKMeans(9, target=0.1, min_gain=0.1).fit(rows)
