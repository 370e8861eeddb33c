"""An estimator saved and loaded goes on as if it had not been, and scikit-learn's own agrees."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.cluster import KMeans
from sklearn.exceptions import NotFittedError

from pipeline import StreamingKMeans, assign
from storage import InputError, IntegrityError, load_dictionary
from storage.interchange.dictionary_file import npz_file, read_dictionary_file, safetensors_file

RNG = np.random.default_rng(0)
ROWS = {
    "uint8": RNG.integers(0, 256, (900, 6), np.uint8),
    "uint16": RNG.integers(0, 4096, (900, 6), np.uint16),
    "int16": RNG.integers(-9, 99, (900, 6), np.int16),
    "float32": RNG.normal(size=(900, 6)).astype(np.float32),
    "float64": RNG.normal(size=(900, 6)),
}
every_type = pytest.mark.parametrize("name", ROWS)


def fitted(name: str = "uint8", **options: Any) -> StreamingKMeans:
    """By the engine that compiles nothing."""
    usual = {"random_state": 0, "max_iter": 4, "engine": "torch"}
    return StreamingKMeans(5, **usual | options).fit(ROWS[name])


def saved(model: StreamingKMeans, folder: Path) -> Path:
    model.save(folder / "model.npz")
    return folder / "model.npz"


def attributes(model: StreamingKMeans) -> dict[str, Any]:
    left_out = ("_labels", "_rows", "_taken")
    return {n: v for n, v in vars(model).items() if n not in left_out} | vars(model._taken)


def assert_same(found: StreamingKMeans, expected: StreamingKMeans) -> None:
    mine, others = attributes(found), attributes(expected)
    assert set(mine) == set(others)
    for name, value in others.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(mine[name], value)
            assert mine[name].dtype == value.dtype
        else:
            assert mine[name] == value, name
            assert type(mine[name]) is type(value), name


@every_type
def test_what_is_loaded_is_what_was_saved(name: str, tmp_path: Path) -> None:
    model = fitted(name, breathing=2)
    found = StreamingKMeans.load(saved(model, tmp_path))
    assert_same(found, model)
    np.testing.assert_array_equal(found.predict(ROWS[name]), model.labels_)
    assert not hasattr(found, "labels_")


@every_type
def test_partial_fit_goes_on_as_without_the_file(name: str, tmp_path: Path) -> None:
    model = StreamingKMeans(5, engine="torch", random_state=0).partial_fit(ROWS[name][:300])
    found = StreamingKMeans.load(saved(model, tmp_path))
    assert_same(found, model)
    for start in (300, 600):
        rows = ROWS[name][start : start + 300]
        assert_same(found.partial_fit(rows), model.partial_fit(rows))


def test_parameters_are_kept(tmp_path: Path) -> None:
    start = ROWS["uint8"][:3]
    model = fitted(init=start, memory="2GiB", tol=np.float64(0.5), batch_size=np.int64(99))
    found = StreamingKMeans.load(str(saved(model, tmp_path)))
    np.testing.assert_array_equal(found.init, start)
    assert found.get_params() | {"init": None} == model.get_params() | {"init": None}
    np.testing.assert_array_equal(found.fit(ROWS["uint8"]).cluster_centers_, model.cluster_centers_)


def test_names_of_columns_are_kept(tmp_path: Path) -> None:
    frame = pandas.DataFrame(ROWS["float64"], columns=list("abcdef"))
    model = StreamingKMeans(3, random_state=0, max_iter=2, engine="torch").fit(frame)
    found = StreamingKMeans.load(saved(model, tmp_path))
    np.testing.assert_array_equal(found.predict(frame), model.labels_)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(frame[list("bacdef")])
    assert model.to_sklearn().predict(frame).tolist() == model.labels_.tolist()


def test_a_file_is_replaced_whole_and_holds_no_pickle(tmp_path: Path) -> None:
    path = saved(fitted("uint16"), tmp_path)
    model = fitted()
    model.save(str(path))
    assert [path] == list(tmp_path.iterdir())
    assert_same(StreamingKMeans.load(path), model)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_load_dictionary_opens_it(tmp_path: Path) -> None:
    model = fitted()
    found = load_dictionary(saved(model, tmp_path))
    assert dict(found["centroids"].sizes) == {"atom": 5, "feature": 6}
    np.testing.assert_array_equal(found["count"], model.counts_)
    np.testing.assert_array_equal(found["rows"], model.history_["rows"])
    assert found.attrs["mse"] == model.inertia_ / ROWS["uint8"].size
    assert "estimator" not in found.attrs


@every_type
@pytest.mark.parametrize("write", [npz_file, safetensors_file])
def test_an_exported_dictionary_is_loaded(name: str, write: Any, tmp_path: Path) -> None:
    model = fitted(name, mode="full", max_iter=99, tol=1e-20)
    assert model.stopped_ == "tol"  # each centroid is the mean of its rows
    path = tmp_path / "exported"
    sse = model._taken.sse(model.cluster_centers_)
    card = {"k": 5, "sse": model.inertia_, "passes": 7, "stopped": "tol", "source": {"dtype": name}}
    centroids = model.cluster_centers_.reshape(5, 2, 3)
    arrays = {"centroids": centroids, "count": model.counts_, "sse": sse}
    path.write_bytes(write(arrays, card))
    found = StreamingKMeans.load(path).set_params(engine="torch")
    np.testing.assert_array_equal(found.predict(ROWS[name]), model.labels_)
    assert (found.n_clusters, found.inertia_, found.n_iter_) == (5, model.inertia_, 7)
    np.testing.assert_allclose(found._taken.sse(found.cluster_centers_), sse, rtol=1e-6, atol=3)
    more = ROWS[name][:50]
    np.testing.assert_allclose(
        found.partial_fit(more).cluster_centers_,
        model.partial_fit(more).cluster_centers_,
        rtol=1e-5,
        atol=1e-5,
    )
    assert found.counts_.sum() == 950


def test_what_cannot_be_saved_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFittedError):
        StreamingKMeans(3).save(tmp_path / "a.npz")
    drawn = fitted(random_state=np.random.RandomState(0))
    with pytest.raises(InputError, match=r"random_state is a generator, .*set an integer"):
        drawn.save(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"no folder .*absent to write a\.npz into"):
        fitted().save(tmp_path / "absent" / "a.npz")
    with pytest.raises(InputError, match=f"{tmp_path} is a folder: give the name of a file"):
        fitted().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = saved(fitted(), tmp_path)
    arrays, card = read_dictionary_file(path)
    card["estimator"]["parameters"]["rounds"] = 3
    path.write_bytes(npz_file(arrays, card))
    with pytest.raises(IntegrityError, match="knows no parameter 'rounds'"):
        StreamingKMeans.load(path)
    path.write_bytes(npz_file({"centroids": arrays["centroids"]}, {"k": 5}))
    with pytest.raises(InputError, match=r"model\.npz holds no 'sse' of an estimator"):
        StreamingKMeans.load(path)
    path.write_bytes(pickle.dumps(3))
    with pytest.raises(InputError, match="is not a dictionary that patchdict wrote"):
        StreamingKMeans.load(path)
    with pytest.raises(InputError, match="no file"):
        StreamingKMeans.load(tmp_path / "absent")


@every_type
def test_scikit_learns_own_gives_the_same_labels(name: str) -> None:
    model = fitted(name)
    found = model.to_sklearn()
    assert type(found) is KMeans
    np.testing.assert_array_equal(found.predict(ROWS[name]), model.labels_)
    np.testing.assert_array_equal(found.labels_, model.labels_)
    np.testing.assert_array_equal(found.cluster_centers_, model.cluster_centers_)
    assert (found.inertia_, found.n_iter_) == (model.inertia_, model.n_iter_)
    assert found.transform(ROWS[name]).shape == (900, 5)
    assert pickle.loads(pickle.dumps(found)).predict(ROWS[name]).shape == (900,)


def test_of_equal_centroids_scikit_learn_takes_the_first() -> None:
    rows = np.repeat(np.array([[0, 9], [9, 0]], np.uint8), 20, 0)
    model = StreamingKMeans(2, init=rows[[0, 20]], random_state=0, engine="torch").fit(rows)
    model.cluster_centers_ = np.array([[9, 9], [0, 0], [9, 9], [0, 0]], np.float32)
    assert model.to_sklearn().predict(rows).tolist() == [0] * 40
    assert assign(rows, model.cluster_centers_).tolist() == [0] * 40


@pytest.mark.parametrize(
    ("begun", "changed"),
    [
        ({"preprocess": "contrast"}, {"preprocess": "zca"}),
        ({}, {"preprocess": "contrast"}),
        ({"preprocess": "zca"}, {"zca_epsilon": 0.5}),
        ({"preprocess": "contrast"}, {"contrast_floor": 1.0}),
        ({}, {"distance": "cosine"}),
    ],
)
def test_a_stream_whose_preprocessing_changes_is_refused(
    begun: dict[str, object], changed: dict[str, object], tmp_path: Path
) -> None:
    km = StreamingKMeans(5, random_state=0, **begun).partial_fit(ROWS["uint8"])
    km.save(tmp_path / "km.npz")
    before = km.get_params()
    for one in (km, StreamingKMeans.load(tmp_path / "km.npz")):
        centroids = one.cluster_centers_
        one.set_params(**changed)
        (name,) = changed
        with pytest.raises(InputError, match=f"{name} is .* where the stream began with "):
            one.partial_fit(ROWS["uint8"])
        assert one.cluster_centers_ is centroids
        one.set_params(**{name: before[name]}).partial_fit(ROWS["uint8"])


def test_what_has_no_part_in_a_stream_may_change() -> None:
    km = StreamingKMeans(5, random_state=0).partial_fit(ROWS["uint8"])
    km.set_params(zca_epsilon=0.5, contrast_floor=1.0).partial_fit(ROWS["uint8"])
    assert km.counts_.sum() == 1800
