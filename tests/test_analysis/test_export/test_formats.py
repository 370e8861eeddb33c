"""Each format is read back by its own library, and gives the codes of `assign`."""

import json
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
import xarray
from sklearn.cluster import KMeans

from analysis import TorchDictionary, centroid_kinds, export_dictionary, usage
from analysis.export.formats import FORMATS
from pipeline import assign
from storage import InputError, IntegrityError, PatchSpec, open_dictionaries, open_images
from tests.test_analysis.test_html_report.small_runs import learn, small_images

SPEC = json.dumps(PatchSpec(2, 2).to_dict())


@pytest.fixture(scope="module")
def node(digits_folder: Path) -> xarray.DataTree:
    found = open_dictionaries(digits_folder / "dictionaries.zarr")["k00060"]
    assert isinstance(found, xarray.DataTree)
    return found


def made_up(centroids: np.ndarray, **attributes: Any) -> xarray.Dataset:
    axes = ("atom", "row", "col", "channel")[: centroids.ndim]
    return xarray.Dataset({"centroids": (axes, centroids)}, attrs={"spec": SPEC} | attributes)


def rows_of(images: np.ndarray, rows: int, cols: int, stride: int = 1) -> np.ndarray:
    """All patches, (n · down · across, d) in the order of a store's columns."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (rows, cols), (1, 2))
    if images.ndim == 4:
        windows = np.moveaxis(windows, 3, -1)
    windows = windows[:, ::stride, ::stride]
    return np.ascontiguousarray(windows.reshape(np.prod(windows.shape[:3]), -1))


def flat(dictionary: xarray.DataTree | xarray.Dataset) -> np.ndarray:
    centroids = np.asarray(dictionary["centroids"])
    return centroids.reshape(len(centroids), -1)


def written(dictionary: Any, name: str, folder: Path) -> Path:
    path = folder / f"a{FORMATS[name].suffix}"
    export_dictionary(dictionary, name, path)
    return path


def codes_of(path: Path, name: str, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """By the library of the format."""
    if name == "sklearn":
        found: np.ndarray = joblib.load(path).predict(rows)
        return found
    if name == "torch":
        return TorchDictionary.load(path)(torch.from_numpy(images)).numpy().ravel()
    faiss = pytest.importorskip("faiss")
    labels: np.ndarray = faiss.read_index(str(path)).search(rows.astype(np.float32), 1)[1]
    return labels.ravel()


@pytest.mark.parametrize("name", ["sklearn", "faiss", "torch"])
def test_codes_are_those_of_assign(name: str, node: xarray.DataTree, tmp_path: Path) -> None:
    images = open_images("digits", "test").images
    rows = rows_of(images, 5, 5)
    expected = assign(rows, flat(node))
    found = codes_of(written(node, name, tmp_path), name, images, rows)
    if name == "faiss":  # computes in float32: of two that are as near up to that it may take one
        reached, least = (
            ((rows - flat(node)[codes].astype(np.float64)) ** 2).sum(1)
            for codes in (found, expected)
        )
        assert np.all(reached - least <= 1e-6 * (rows.astype(np.float64) ** 2).sum(1))
        assert np.mean(found != expected) < 1e-3
    else:
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["sklearn", "faiss", "torch"])
def test_ties_go_to_the_lowest_index(name: str, tmp_path: Path) -> None:
    levels = np.array([200, 10, 30, 10, 30, 0], np.float32)
    dictionary = made_up(np.broadcast_to(levels[:, None, None], (6, 2, 2)).copy())
    images = np.zeros((3, 2, 2), np.uint8) + np.array([20, 30, 5], np.uint8)[:, None, None]
    rows = rows_of(images, 2, 2)
    assert assign(rows, flat(dictionary)).tolist() == [1, 2, 1]
    found = codes_of(written(dictionary, name, tmp_path), name, images, rows)
    assert found.tolist() == [1, 2, 1]


@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(np.uint8, (3,)), (np.uint16, ()), (np.float32, ()), (np.float64, ())],
)
def test_codes_of_colour_more_bits_and_floats(
    dtype: type, channels: tuple[int, ...], tmp_path: Path
) -> None:
    path = small_images(tmp_path / "own.npy", *channels)
    pixels = np.load(path).astype(dtype)
    pixels = pixels * dtype(257) if dtype == np.uint16 else pixels
    pixels = pixels / dtype(255) if np.dtype(dtype).kind == "f" else pixels
    np.save(path, pixels)
    folder = learn(tmp_path / "runs", (7,), dataset=path, patch="3x4", stride=2)
    node = open_dictionaries(folder / "dictionaries.zarr")["k00007"]
    rows = rows_of(pixels, 3, 4, 2)
    images = np.moveaxis(pixels, -1, 1).copy() if channels else pixels
    for name in ("sklearn", "torch"):
        found = codes_of(written(node, name, tmp_path), name, images, rows)
        np.testing.assert_array_equal(found, assign(rows, flat(node)))


def test_sklearn_has_a_fitted_model_and_a_warning(node: xarray.DataTree, tmp_path: Path) -> None:
    result = export_dictionary(node, "sklearn", tmp_path / "a.joblib")
    assert result["warning"].startswith(
        "this file is a pickle: whoever opens it runs what is in it"
    )
    model = joblib.load(tmp_path / "a.joblib")
    assert type(model) is KMeans
    assert model.get_params() == KMeans(60).get_params()
    np.testing.assert_array_equal(model.cluster_centers_, flat(node))
    assert model.inertia_ == node.attrs["sse"]
    assert not hasattr(model, "labels_")
    assert model.transform(flat(node)[:3].astype(float)).argmin(1).tolist() == [0, 1, 2]
    assert [name for name, found in FORMATS.items() if found.warning] == ["sklearn"]
    assert export_dictionary(node, "npz", tmp_path / "a.npz")["warning"] is None


def test_faiss_gives_squared_distances(node: xarray.DataTree, tmp_path: Path) -> None:
    faiss = pytest.importorskip("faiss")
    index = faiss.read_index(str(written(node, "faiss", tmp_path)))
    assert (type(index).__name__, index.ntotal, index.d) == ("IndexFlatL2", 60, 25)
    rows = flat(node)[:4] + 1
    np.testing.assert_allclose(index.search(rows, 1)[0].ravel(), 25, rtol=1e-3)


def test_torch_opens_the_file_without_our_class(node: xarray.DataTree, tmp_path: Path) -> None:
    path = written(node, "torch", tmp_path)
    found = torch.load(path, weights_only=True)
    assert json.loads(found["card"])["k"] == 60
    (weights,) = found["state_dict"].values()
    assert (tuple(weights.shape), weights.dtype) == ((60, 1, 5, 5), torch.float32)
    module = TorchDictionary(torch.zeros(60, 1, 5, 5))
    module.load_state_dict(found["state_dict"])
    images = torch.from_numpy(open_images("digits", "test").images[:3])
    assert torch.equal(module(images), TorchDictionary.load(path)(images))


def test_torch_gives_distances_and_triangle_features(node: xarray.DataTree, tmp_path: Path) -> None:
    images = open_images("digits", "test").images[:5]
    rows, path = rows_of(images, 5, 5).astype(np.float64), written(node, "torch", tmp_path)
    expected = ((rows[:, None] - flat(node)) ** 2).sum(2)
    distances = TorchDictionary.load(path, output="distances")(torch.from_numpy(images))
    assert tuple(distances.shape) == (5, 60, 4, 4)
    np.testing.assert_allclose(distances.permute(0, 2, 3, 1).reshape(-1, 60), expected, atol=1e-6)
    features = TorchDictionary.load(path, output="triangle")(torch.from_numpy(images[:, None]))
    roots = np.sqrt(expected)
    triangle = np.maximum(0, roots.mean(1, keepdims=True) - roots)
    np.testing.assert_allclose(features.permute(0, 2, 3, 1).reshape(-1, 60), triangle, atol=1e-6)
    narrow = TorchDictionary.load(path, output="triangle").float()(torch.from_numpy(images))
    assert narrow.dtype == torch.float32
    np.testing.assert_allclose(narrow, features, rtol=1e-2, atol=0.1)


def test_torch_mirrors_the_border_as_the_store_does(tmp_path: Path) -> None:
    folder = learn(tmp_path, (6,), patch="4x5", stride=3, border="reflect")
    node = open_dictionaries(folder / "dictionaries.zarr")["k00006"]
    images = open_images("digits", "test").images[:9]
    padded = np.pad(images, ((0, 0), (2, 1), (2, 2)), mode="reflect")
    found = TorchDictionary.load(written(node, "torch", tmp_path))(torch.from_numpy(images))
    assert tuple(found.shape) == (9, 3, 3)
    np.testing.assert_array_equal(found.ravel(), assign(rows_of(padded, 4, 5, 3), flat(node)))


def test_torch_refuses_what_does_not_fit(node: xarray.DataTree, tmp_path: Path) -> None:
    path = written(node, "torch", tmp_path)
    module = TorchDictionary.load(path)
    with pytest.raises(InputError, match=r"shape \(2, 3, 8, 8\) do not fit: give \(n, 1, rows,"):
        module(torch.zeros(2, 3, 8, 8))
    with pytest.raises(InputError, match="4x8 pixels are smaller than the patches of 5x5"):
        module(torch.zeros(2, 4, 8))
    with pytest.raises(InputError, match="no output 'soft': use codes, triangle, distances"):
        TorchDictionary.load(path, output="soft")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"centroids have the shape \(60, 25\)"):
        TorchDictionary(torch.zeros(60, 25))
    with pytest.raises(InputError, match=r"no file .*absent"):
        TorchDictionary.load(tmp_path / "absent")
    for content in (b"", b"no torch", path.read_bytes()[:3000]):
        (tmp_path / "other").write_bytes(content)
        with pytest.raises(IntegrityError, match="other is not a whole file that export wrote"):
            TorchDictionary.load(tmp_path / "other")
    for found in ([1], {"card": "{}", "state_dict": {}}, {"card": 3}):
        torch.save(found, tmp_path / "other")
        with pytest.raises(IntegrityError, match="other is not a whole file that export wrote"):
            TorchDictionary.load(tmp_path / "other")
    with pytest.raises(InputError, match="does not say how its patches were cut"):
        export_dictionary(node.to_dataset(), "torch", tmp_path / "b.pt")


def test_parquet_has_a_row_for_each_centroid(node: xarray.DataTree, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(written(node, "parquet", tmp_path))
    assert json.loads(table.schema.metadata[b"card"])["k"] == 60
    assert str(table.schema.field("centroid").type).startswith("fixed_size_list<")
    found = table.to_pandas()
    np.testing.assert_array_equal(np.stack(found["centroid"]), flat(node))
    np.testing.assert_array_equal(found["sse"], node["sse"])
    np.testing.assert_array_equal(found["kind"], centroid_kinds(node))
    used = usage(node)
    columns = ["count", "share", "sse_share", "mse", "rank"]
    for name in columns:
        np.testing.assert_array_equal(found[name], used[name])
    assert list(found) == ["atom", "centroid", "sse", *columns, "kind"]


def test_parquet_has_what_is_known(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    bare = made_up(np.zeros((3, 2, 2), np.float32))
    table = parquet.read_table(written(bare, "parquet", tmp_path))
    assert table.column_names == ["atom", "centroid"]
    unused = bare.assign(count=("atom", [3, 0, 1]), sse=("atom", [1.0, 0.0, 0.0]))
    export_dictionary(unused, "parquet", tmp_path / "b")
    assert parquet.read_table(tmp_path / "b")["mse"].to_pylist() == [1 / 12, None, 0.0]


@pytest.mark.parametrize(
    ("name", "library", "task"),
    [
        ("safetensors", "safetensors.numpy", "write safetensors"),
        ("faiss", "faiss", "write an index of faiss"),
        ("parquet", "pyarrow", "write parquet"),
    ],
)
def test_a_missing_library_is_named(
    name: str,
    library: str,
    task: str,
    node: xarray.DataTree,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError) as refused:
        export_dictionary(node, name, tmp_path / "a")
    assert str(refused.value) == (
        f"cannot {task}: install what does it: pip install 'patchdict[export]'"
    )
    assert list(tmp_path.iterdir()) == []
