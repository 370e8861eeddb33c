"""Coverage of patches by centroids against plain float64, and by hand."""

from typing import Any

import dask.array
import numpy as np
import pytest
import xarray

from analysis import coverage
from analysis.html_report.samples import quantise
from analysis.measures import coverage as covering
from analysis.measures.coverage import BINS, EPSILON_STEPS, QUANTILES
from analysis.reconstruction.overlap import Rebuilder, images_at_once
from pipeline.runtime.devices import CPU, Device
from storage import InputError, IntegrityError, MemoryBudgetError, PatchSpec, PatchStore
from tests.damage import flip_bit
from tests.oracles import squared_distances

SPEC = PatchSpec(3, 4)


def rmse_of(rows: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    flat = centroids.reshape(len(centroids), -1)
    return np.sqrt(squared_distances(rows, flat).min(axis=1) / rows.shape[1])


@pytest.mark.parametrize("first", [None, 1, 700, 10**9])
def test_shares_quantiles_and_mse_agree_with_float64(
    store: PatchStore,
    rows: np.ndarray,
    centroids: np.ndarray,
    first: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(covering, "PIECE_ROWS", 100)
    found = coverage(centroids, store, rows=first)
    rmse = rmse_of(rows[:first], centroids)
    assert found["rows"] == len(rmse)
    assert float(found["mse"]) == pytest.approx(np.mean(rmse**2), rel=1e-12)
    np.testing.assert_array_equal(found["epsilon"], np.arange(256))
    for epsilon, within in zip(found["epsilon"].values, found["within"].values, strict=True):
        assert within == np.mean(rmse <= epsilon)
    exact = np.quantile(rmse, QUANTILES, method="inverted_cdf")
    over = found["rmse_quantile"].values - exact
    assert (over > -1e-9).all()
    assert (over <= 255 / BINS).all()


@pytest.mark.parametrize("worst", [6, 1000])
def test_the_worst_patches_are_of_different_images_and_are_where_they_are_said_to_be(
    store: PatchStore, rows: np.ndarray, centroids: np.ndarray, strokes: np.ndarray, worst: int
) -> None:
    found = coverage(centroids, store, worst=worst)
    rmse = rmse_of(rows, centroids)
    best = {}  # the worst of each image, by a plain loop
    for place, image in enumerate(store.order):
        first, stop = store.offsets[place : place + 2]
        if first < stop:
            row = first + int(np.argmax(rmse[first:stop]))
            best[int(image)] = (-rmse[row], int(row))
    expected = sorted((*key, image) for image, key in best.items())[:worst]
    assert [int(row) for row in found["worst_row"]] == [row for _, row, _ in expected]
    assert [int(image) for image in found["worst_image"]] == [image for *_, image in expected]
    np.testing.assert_allclose(found["worst_rmse"], [-key for key, *_ in expected])
    assert found["worst_patch"].dims == found["worst_centroid"].dims == ("worst", "row", "col")
    assert found["worst_patch"].dtype == np.uint8
    for index in range(found.sizes["worst"]):
        one = found.isel(worst=index)
        np.testing.assert_array_equal(one["worst_patch"].values.ravel(), rows[int(one.worst_row)])
        tile = centroids[int(one["worst_index"])]
        np.testing.assert_array_equal(one["worst_centroid"], tile)
        errors = one["worst_patch"].values.astype(np.float64) - tile
        assert float(one["worst_rmse"]) == pytest.approx(np.sqrt(np.mean(errors**2)))
        image = strokes[int(one["worst_image"])]
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 4)).reshape(-1, 3, 4)
        assert (windows == one["worst_patch"].values).all(axis=(1, 2)).any()


def test_by_hand() -> None:
    # Of two pixels: the rows are (3, 4), (0, 0) and (100, 100) away from their centroids.
    rows = np.array([[13, 14], [10, 10], [110, 0]], np.uint8)
    centroids = np.array([[10, 10], [10, 100]], np.float32)
    found = coverage(centroids, rows, worst=2)
    assert float(found["mse"]) == pytest.approx((9 + 16 + 100**2 + 10**2) / 6)
    np.testing.assert_array_equal(found["within"].sel(epsilon=[0, 3, 4]), [1 / 3, 1 / 3, 2 / 3])
    assert float(found["within"].sel(epsilon=71)) == 2 / 3  # √(10100 / 2) = 71.06
    assert float(found["within"].sel(epsilon=72)) == 1
    np.testing.assert_array_equal(found["worst_row"], [2, 0])
    np.testing.assert_array_equal(found["worst_index"], [0, 0])
    assert found["worst_patch"].dims == ("worst", "pixel")
    assert "worst_image" not in found


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_other_types_have_their_own_scale(dtype: str) -> None:
    rng = np.random.default_rng(0)
    largest = 65535 if dtype == "uint16" else 1.0
    rows = (rng.uniform(0, 1, (500, 6)) * largest).astype(dtype)
    centroids = (rng.uniform(0, 1, (4, 6)) * largest).astype(np.float32)
    rmse = rmse_of(rows, centroids)
    for given in (rows, dask.array.from_array(rows, chunks=(70, 6)), xarray.DataArray(rows)):
        found = coverage(centroids, given)
        assert found.sizes["epsilon"] == EPSILON_STEPS
        assert found["epsilon"].values[-1] == largest
        shares = [np.mean(rmse <= epsilon) for epsilon in found["epsilon"].values]
        np.testing.assert_array_equal(found["within"], shares)
        exact = np.quantile(rmse, QUANTILES, method="inverted_cdf")
        np.testing.assert_allclose(found["rmse_quantile"], exact, atol=largest / BINS)


def test_floats_beyond_the_largest_level_are_within_no_epsilon() -> None:
    rows = np.array([[0.5], [9.0], [9.0]], np.float64)
    found = coverage(np.array([[0.5]]), rows)
    assert float(found["within"][-1]) == 1 / 3
    assert float(found["rmse_quantile"][-1]) == 8.5


def test_colour_patches_and_a_node_of_the_tree(store: PatchStore) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (50, 2, 2, 3), np.uint8)
    centroids = rows[:5].astype(np.float32)
    axes = ("atom", "row", "col", "channel")
    tree = xarray.DataTree.from_dict({"k00005": xarray.Dataset({"centroids": (axes, centroids)})})
    found = coverage(tree["k00005"], rows, worst=3)
    assert found["worst_patch"].dims == ("worst", *axes[1:])
    expected = coverage(centroids.reshape(5, -1), rows.reshape(50, -1), worst=3)
    np.testing.assert_array_equal(found["within"], expected["within"])
    assert float(found["within"][0]) == 5 / 50
    flat = centroids.reshape(5, -1)
    assert coverage(flat, store, worst=0).sizes["worst"] == 0
    assert coverage(flat, store)["worst_patch"].shape[1:] == store.patch_shape


def test_one_centroid_and_one_row() -> None:
    found = coverage(np.array([[4.0, 4.0]], np.float32), np.array([[4, 4]], np.uint8))
    assert (found["within"] == 1).all()
    assert (found["rmse_quantile"] == 0).all()
    assert found.sizes["worst"] == 1


@pytest.mark.parametrize(
    ("patches", "options", "message"),
    [
        (np.ones((4, 3), np.uint8), {}, "patches of 3 values do not fit centroids of 2"),
        (np.ones((4, 2), np.int64), {}, "hold int64"),
        (np.ones((0, 2), np.uint8), {}, "holds nothing"),
        (np.ones((4, 2), np.uint8), {"rows": 0}, "ask for at least one"),
        (np.ones((4, 2), np.uint8), {"worst": -1}, "ask for 0 or more"),
        (np.full((4, 2), np.nan), {}, "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(
    patches: np.ndarray, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        coverage(np.ones((3, 2), np.float32), patches, **options)


def test_a_small_cap_is_refused_with_both_numbers(store: PatchStore, centroids: np.ndarray) -> None:
    with pytest.raises(MemoryBudgetError, match=r"needs .* more than the cap of 10.0 MiB"):
        coverage(centroids, store, memory="10MiB")


def test_damage_is_named(store: PatchStore, centroids: np.ndarray) -> None:
    flip_bit(store.path / "patches" / "c" / "1" / "0", 200)
    with pytest.raises(IntegrityError, match="chunk 1"):
        coverage(centroids, store)
    assert coverage(centroids, store, rows=256)["rows"] == 256  # the first chunk alone


def test_labels_are_found_on_the_cpu_whatever_is_there(
    store: PatchStore, rows: np.ndarray, centroids: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def resolved(name: str, dtype: np.dtype) -> Device:
        asked.append(name)
        return CPU

    monkeypatch.setattr("pipeline.engines.nearest.resolve_device", resolved)
    coverage(centroids, store)
    Rebuilder(centroids, SPEC, np.dtype(np.uint8))
    quantise(rows[:3].reshape(-1, 3, 4), centroids)
    images_at_once((5, 6), np.dtype(np.uint8), SPEC, 7, 1 << 40)
    assert len(asked) == 5
    assert set(asked) == {"cpu"}
