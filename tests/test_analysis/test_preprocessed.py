"""What reads dictionaries reads those of preprocessed patches, too, and shows them in pixels."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray
from PIL import Image

from analysis import (
    centroid_kinds,
    coverage,
    decode,
    distance_map,
    encode,
    export_dictionary,
    gallery,
    mse_curve,
    open_stages,
    reconstruct,
    report,
)
from analysis.encoding.stages import stage_scores
from analysis.export.export_dictionary import in_words
from analysis.measures.codebook import pixel_centroids, preprocessing_of
from analysis.text import number
from pipeline import SweepOptions, sweep
from storage import InputError, load_dictionary, open_dictionaries, open_images, open_patches
from tests.oracles import squared_distances

KINDS = {"zca": ("zca", "euclidean"), "spherical": ("contrast", "cosine")}


@pytest.fixture(scope="module", params=KINDS)
def experiment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    preprocess, distance = KINDS[request.param]
    options = {"preprocess": preprocess, "distance": distance, "max_iter": 3, "breathing": 1}
    return Path(sweep(SweepOptions.checked(k="5,40", out=out, **options))["experiment"])


@pytest.fixture
def node(experiment: Path) -> xarray.DataTree:
    found = open_dictionaries(experiment / "dictionaries.zarr")["k00040"]
    assert isinstance(found, xarray.DataTree)
    return found


def windows(images: np.ndarray, size: int = 5) -> np.ndarray:
    return np.lib.stride_tricks.sliding_window_view(images, (size, size), (1, 2))


def naive(images: np.ndarray, node: xarray.DataTree) -> tuple[np.ndarray, np.ndarray]:
    """Rebuilt images, and codes, by plain loops; −1 for blank patches."""
    preprocessing, centroids = preprocessing_of(node), node["centroids"].values.reshape(40, -1)
    assert preprocessing is not None
    cut = windows(images)
    codes = np.full(cut.shape[:3], -1)
    total, cover = np.zeros(images.shape), np.zeros(images.shape)
    for n, row, col in np.ndindex(codes.shape):
        patch = cut[n, row, col].reshape(1, -1)
        if not patch.any():
            continue
        met = preprocessing.rows(patch).astype(np.float64)
        codes[n, row, col] = code = np.square(met - centroids).sum(1).argmin()
        made = preprocessing.restored(patch, centroids, np.array([code])).reshape(5, 5)
        total[n, row : row + 5, col : col + 5] += made
        cover[n, row : row + 5, col : col + 5] += 1
    return total / np.maximum(cover, 1), codes


def test_images_are_rebuilt_with_their_own_brightness(node: xarray.DataTree) -> None:
    images = open_images("digits", "test").read(slice(0, 6))
    expected, codes = naive(images, node)
    np.testing.assert_allclose(reconstruct(images, node), expected, atol=1e-6)
    found = encode(images, node)
    assert np.array_equal(np.where(codes < 0, found.attrs["no_code"], codes), found)
    with pytest.raises(InputError, match="brightness and contrast"):
        decode(found, node)


def test_colour_patches_keep_one_mean_and_contrast(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = np.cumsum(rng.integers(0, 20, (30, 12, 12, 3)), axis=1).astype(np.uint8)
    np.save(tmp_path / "colour.npy", images)
    options = {"dataset": str(tmp_path / "colour.npy"), "patch": "3x4", "k": "40", "max_iter": 3}
    done = sweep(SweepOptions.checked(out=tmp_path, preprocess="zca", breathing=0, **options))
    node = open_dictionaries(Path(done["experiment"]) / "dictionaries.zarr")["k00040"]
    preprocessing, centroids = preprocessing_of(node), node["centroids"].values.reshape(40, -1)
    assert preprocessing is not None
    cut = np.lib.stride_tricks.sliding_window_view(images[:1], (3, 4), (1, 2))
    patches = np.moveaxis(cut, 3, -1).reshape(-1, 36)
    labels = encode(images[:1], node).values.ravel()
    made = preprocessing.restored(patches, centroids, labels).reshape(10, 9, 3, 4, 3)
    total, cover = np.zeros((12, 12, 3)), np.zeros((12, 12, 1))
    for row, col in np.ndindex(10, 9):
        total[row : row + 3, col : col + 4] += made[row, col]
        cover[row : row + 3, col : col + 4] += 1
    np.testing.assert_allclose(reconstruct(images[0], node), total / cover, atol=1e-6)


def test_scores_are_in_pixels(experiment: Path, node: xarray.DataTree) -> None:
    curve = mse_curve(open_dictionaries(experiment / "dictionaries.zarr"))
    assert curve["mse"].sel(k=40) == node.attrs["pixel_mse"]
    assert curve["heldout_mse"].sel(k=40) == node.attrs["heldout_pixel_mse"]
    assert curve["mse"].values[0] > curve["mse"].values[1] > node.attrs["mse"]
    (store,) = (experiment.parent / "patches").glob("digits-test*.zarr")
    covered = coverage(node, open_patches(store))
    assert float(covered["mse"]) == pytest.approx(node.attrs["heldout_pixel_mse"], rel=1e-9)
    worst = covered["worst_patch"].values - covered["worst_centroid"].values
    rmse = np.sqrt(np.square(worst).mean(axis=(1, 2)))
    np.testing.assert_allclose(rmse, covered["worst_rmse"], rtol=1e-4)


def test_centroids_are_shown_in_pixels(node: xarray.DataTree) -> None:
    shown = pixel_centroids(node)
    assert shown.shape == (40, 5, 5)
    assert np.abs(node["centroids"].values).max() < 10 < np.ptp(shown) < 1000
    assert node["centroids"].attrs["units"] == "1"
    preprocessing = preprocessing_of(node)
    assert preprocessing is not None
    # as much brightness as patches have on average
    means = shown.mean(axis=(1, 2))
    assert np.abs(means - preprocessing.level).max() < preprocessing.spread
    picture = np.asarray(gallery(node).image)
    assert np.ptp(picture[1:-1, 1:-1]) > 200
    assert len(set(centroid_kinds(node).values)) > 1


def test_stages_are_of_what_is_left_of_preprocessed_patches(
    experiment: Path, node: xarray.DataTree, tmp_path: Path
) -> None:
    runs = shutil.copytree(experiment.parent, tmp_path / "runs")
    folder, made = runs / experiment.name, preprocessing_of(node)
    assert made is not None
    if made.distance == "cosine":
        with pytest.raises(InputError, match="use a dictionary learned with DISTANCE=euclidean"):
            open_stages(folder, 40, 2)
        with pytest.raises(InputError, match="of directions nothing is left"):
            encode(open_images("digits", "test"), [node, node])
        return
    nodes = open_stages(folder, 40, 3)
    images = open_images("digits", "test")
    codes = encode(images, nodes)
    cut = windows(images.images[:9]).reshape(-1, 25)
    kept = cut.any(axis=1)
    left = made.rows(cut[kept])
    for of_stage, one in zip(codes[:, :9].values.reshape(3, -1), nodes, strict=True):
        flat = one["centroids"].values.reshape(40, -1)
        labels = squared_distances(left, flat).argmin(axis=1)
        np.testing.assert_array_equal(of_stage[kept], labels)
        left = left - flat[labels]
    for split, name in (("train", "pixel_mse"), ("test", "heldout_pixel_mse")):
        (store,) = (runs / "patches").glob(f"digits-{split}*.zarr")
        patches = np.asarray(open_patches(store).array[:])
        left, total = made.rows(patches), np.zeros(patches.shape)
        scores = []
        for one in nodes:
            flat = one["centroids"].values.reshape(40, -1)
            labels = squared_distances(left, flat).argmin(axis=1)
            left = left - flat[labels]
            total += made.directions(flat)[labels]
            light = made.amplitudes(patches, flat, labels)
            restored = light[:, :1] + light[:, 1:2] * made.feature_mean + light[:, 2:] * total
            scores.append(float(np.square(restored - patches).mean()))
            assert one.attrs[name] == pytest.approx(scores[-1], rel=1e-6)
            if split == "train":
                assert one.attrs["mse"] == pytest.approx(np.square(left).mean(), rel=1e-5)
        assert scores[2] < scores[1] < scores[0]
        told = [
            one[name.removeprefix("pixel_").replace("_pixel", "")] for one in stage_scores(nodes)
        ]
        assert told == pytest.approx(scores)
    with pytest.raises(InputError, match="brightness and contrast"):
        decode(codes, nodes)


def test_a_map_of_distances_is_of_pixels(node: xarray.DataTree) -> None:
    images = open_images("digits", "test").read(slice(0, 2))
    found = distance_map(images, node)
    made, cut = naive(images, node)[1], windows(images)
    centroids, preprocessing = node["centroids"].values.reshape(40, -1), preprocessing_of(node)
    assert preprocessing is not None
    corner = cut[0, 0, 0].reshape(1, -1)
    error = preprocessing.squared_errors(corner, centroids, made[0, 0, :1])
    assert float(found[0, 0, 0]) == pytest.approx(np.sqrt(error[0] / 25))


@pytest.mark.usefixtures("undrawn")
def test_a_report_says_what_was_done(experiment: Path) -> None:
    (result,) = report(experiment)
    text = Path(result["report"]).read_text()
    assert "taken without their mean" in text
    assert "no part of the bits" in text
    assert "patches and what is rebuilt of them" in text
    assert "that of patches as they met centroids" in text
    (csv,) = (experiment / "figures").glob("*convergence*.csv")
    assert "mse_of_preprocessed_patches" in csv.read_text().splitlines()[0]


def test_files_have_room_for_it_or_are_refused(node: xarray.DataTree, tmp_path: Path) -> None:
    images = open_images("digits", "test").read(slice(0, 3))
    for name in ("npz", "safetensors"):
        result = export_dictionary(node, name, tmp_path / f"one.{name}")
        assert result["card"]["preprocessing"]["kind"] in ("zca", "contrast")
        assert f"MSE {number(node.attrs['pixel_mse'])} in pixels" in in_words(result)
        again = load_dictionary(result["path"])
        np.testing.assert_array_equal(reconstruct(images, again), reconstruct(images, node))
    export_dictionary(node, "parquet", tmp_path / "one.parquet")
    for name in ("sklearn", "faiss", "torch"):
        with pytest.raises(InputError, match="use npz, safetensors, parquet"):
            export_dictionary(node, name, tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_a_dictionary_that_lost_its_matrix_is_refused(node: xarray.DataTree) -> None:
    lost = node.to_dataset().drop_vars("whitening", errors="ignore")
    if "unwhitening" not in lost:
        pytest.skip("contrast alone has no matrix")
    with pytest.raises(InputError, match="whole node"):
        pixel_centroids(lost)


@pytest.mark.usefixtures("undrawn")
def test_a_folder_of_images_with_a_mask_and_a_rule_is_preprocessed(tmp_path: Path) -> None:
    """Patches are those that pixels alone decide on; all is told in pixels of the folder's."""
    rng = np.random.default_rng(0)
    images = np.cumsum(rng.integers(0, 20, (8, 14, 12, 3)), axis=1).astype(np.uint8)
    images[:, :, :5] = 90  # flat: the rule leaves it out
    (tmp_path / "images").mkdir()
    for place, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "images" / f"{place}.png")
    mask = np.ones((14, 12), bool)
    mask[10:] = False
    Image.fromarray(mask).save(tmp_path / "mask.png")
    given = {"patch": "3x4", "keep": "std>0.02", "mask": str(tmp_path / "mask.png"), "k": "30"}
    given |= {"dataset": str(tmp_path / "images"), "heldout": "0.25", "preprocess": "zca"}
    done = sweep(SweepOptions.checked(out=tmp_path / "runs", max_iter=3, breathing=0, **given))
    (entry,) = done["dictionaries"]
    cut = np.moveaxis(np.lib.stride_tricks.sliding_window_view(images, (3, 4), (1, 2)), 3, -1)
    inside = np.arange(12)[:, np.newaxis] + 3 <= 10
    kept = (cut.std(axis=(3, 4, 5)) > 0.02 * 255) & inside
    rows = {}
    for split in ("train", "test"):
        (path,) = (tmp_path / "runs" / "patches").glob(f"*-{split}-*.zarr")
        rows[split] = np.asarray(open_patches(path).array[:])
    found = np.sort(np.concatenate([*rows.values()]), axis=0)
    np.testing.assert_array_equal(found, np.sort(cut[kept].reshape(-1, 36), axis=0))
    node = open_dictionaries(Path(done["experiment"]) / "dictionaries.zarr")["k00030"]
    made, centroids = preprocessing_of(node), node["centroids"].values.reshape(30, -1)
    assert made is not None
    labels = squared_distances(made.rows(rows["test"]), centroids).argmin(axis=1)
    errors = np.square(made.restored(rows["test"], centroids, labels) - rows["test"])
    assert entry["heldout_pixel_mse"] == pytest.approx(errors.mean(), rel=1e-9)
    covered = coverage(node, open_patches(path))
    assert float(covered["mse"]) == pytest.approx(errors.mean(), rel=1e-9)
    (told,) = report(done["experiment"])
    assert "taken without their mean" in Path(told["report"]).read_text()
