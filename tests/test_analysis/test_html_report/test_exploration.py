import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from analysis import reconstruct
from analysis.experiment import Experiment, open_experiment
from analysis.html_report import exploration
from analysis.html_report.exploration import (
    atlas,
    atlases,
    choose_images,
    classed_patches,
    explored_sizes,
    nearest_centroids,
    rebuilt_images,
)
from analysis.html_report.measured import Measured
from analysis.measures.kinds import kinds_of
from analysis.measures.patch_sample import sample_patches
from pipeline import assign, cut_patches, keep_mask
from storage import open_images, open_labels
from tests.test_analysis.test_html_report.small_runs import learn


@pytest.fixture
def digits(digits_folder: Path) -> Experiment:
    return open_experiment(digits_folder)


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Colour images without classes, with blank parts, cut into rectangles two pixels apart."""
    out = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    images = np.zeros((14, 9, 12, 3), np.uint8)
    images[:, 3:8, 2:9] = rng.integers(0, 256, (14, 5, 7, 3))
    np.save(out / "colour.npy", images)
    dataset = str(out / "colour.npy")
    return open_experiment(learn(out, (4,), dataset=dataset, patch=(2, 3), stride=2))


def test_of_each_class_the_image_with_the_median_number_of_patches(digits: Experiment) -> None:
    chosen = choose_images(Measured(digits))
    assert chosen.names == tuple("0123456789")
    for split in ("train", "test"):
        images, labels = open_images("digits", split).images, open_labels("digits", split)
        assert labels is not None
        kept = keep_mask(images, digits.spec).sum(axis=(1, 2))
        assert labels[list(chosen.indices[split])].tolist() == list(range(10))
        for label, index in enumerate(chosen.indices[split]):
            of_class = np.sort(kept[labels == label])
            assert kept[index] == of_class[(len(of_class) - 1) // 2]
        np.testing.assert_array_equal(chosen.images[split], images[list(chosen.indices[split])])


def test_the_classes_of_random_patches_are_those_of_their_images(digits: Experiment) -> None:
    found = classed_patches(Measured(digits), [12])
    assert found is not None
    store, labels = digits.patches("train"), digits.labels("train")
    assert labels is not None
    assert len(found.classes) == exploration.CLASSED_ROWS
    image_of = np.repeat(store.order, np.diff(store.offsets))
    sample = sample_patches(store, exploration.CLASSED_ROWS)
    np.testing.assert_array_equal(found.classes, labels[image_of[sample.numbers]])
    flat = digits.centroids(12).reshape(12, -1)
    np.testing.assert_array_equal(found.nearest[12], assign(sample.values, flat))


def test_without_classes_no_patches_are_told_of(sparse: Experiment) -> None:
    assert classed_patches(Measured(sparse), [4]) is None


def test_a_class_that_one_split_has_not_is_left_out(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {split: digits.labels(split) for split in digits.splits}
    test = known["test"]
    assert test is not None
    fewer = {**known, "test": np.where(test == 4, 9, test)}
    monkeypatch.setattr(Experiment, "labels", lambda _, split: fewer[split])
    chosen = choose_images(Measured(digits))
    assert chosen.names == tuple("012356789")
    assert [len(found) for found in chosen.indices.values()] == [9, 9]


def test_without_classes_the_first_of_the_random_order(sparse: Experiment) -> None:
    chosen = choose_images(Measured(sparse))
    assert chosen.names == tuple("ABCDEFGHIJ")  # images have numbers of their own
    assert chosen.indices["train"] == sparse.patches("train").order[:10].tolist()


def test_of_large_images_fewer_are_chosen_and_the_middle_is_shown(
    sparse: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exploration, "CROPPED_VALUES", 9 * 12 * 3 // 4)
    monkeypatch.setattr(exploration, "EXPLORED_BYTES", 2 * 4 * 72 * len(sparse.sizes) * 3)
    chosen = choose_images(Measured(sparse))
    assert len(chosen.names) == 3
    images = sparse.images("train").images[sparse.patches("train").order[:3]]
    np.testing.assert_array_equal(chosen.images["train"], images[:, 2:6, 2:7])


def test_all_sizes_are_explored_as_long_as_they_fit(
    digits: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = choose_images(Measured(digits))
    assert explored_sizes(Measured(digits), chosen) == [4, 12, 60]
    each = 4 * 20 * (64 + 16)
    monkeypatch.setattr(exploration, "EXPLORED_BYTES", 2 * each + 64 * (25 + 33))
    assert explored_sizes(Measured(digits), chosen) == [4, 60]
    with monkeypatch.context() as patch:  # whose centroids take two bytes a pixel
        patch.setattr(Measured, "pictures", replace(digits.pixels, narrowed=True))
        assert explored_sizes(Measured(digits), chosen) == [4]
    monkeypatch.setattr(exploration, "EXPLORED_BYTES", 1)
    assert explored_sizes(Measured(digits), chosen) == [4]


@pytest.mark.parametrize("name", ["digits", "sparse"])
def test_images_are_rebuilt_as_reconstruct_does(name: str, request: pytest.FixtureRequest) -> None:
    experiment: Experiment = request.getfixturevalue(name)
    chosen = choose_images(Measured(experiment))
    seen = rebuilt_images(Measured(experiment), chosen, experiment.sizes)
    assert (seen["atom"] == -1).any() == (name == "sparse")
    for k, split in [(k, split) for k in experiment.sizes for split in experiment.splits]:
        node = experiment.dictionaries[f"k{k:05d}"]
        flat = experiment.centroids(k).reshape(k, -1)
        for place, image in enumerate(chosen.images[split]):
            one = seen.sel(k=k, split=split).isel(shown=place)
            expected = reconstruct(image, node)
            np.testing.assert_allclose(one["rebuilt"], expected, rtol=1e-6)
            assert float(one["mse"]) == pytest.approx(((image - expected) ** 2).mean())
            kept = keep_mask(image[None], experiment.spec)[0]
            atoms = assign(cut_patches(image[None], experiment.spec), flat)
            np.testing.assert_array_equal(one["atom"].values[kept], atoms)
            assert (one["atom"].values[~kept] == -1).all()
            assert int(one["patches"]) == kept.sum()
            assert int(one["distinct"]) == len(set(atoms.tolist()))


def test_an_atlas_tells_what_is_stored(digits: Experiment) -> None:
    found = atlases(Measured(digits), digits.sizes)
    assert list(found) == digits.sizes
    node, one = digits.nodes[60], found[60]
    np.testing.assert_array_equal(one["count"], node["count"])
    assert float(one["share"].sum()) == pytest.approx(1)
    np.testing.assert_allclose(one["sse_share"], node["sse"] / node["sse"].sum())
    np.testing.assert_array_equal(one["kind"], kinds_of(node["centroids"].values, 255))
    cells = one["order"].values
    assert sorted(cells[cells >= 0].tolist()) == list(range(60))


def test_a_dictionary_without_any_error_has_no_shares_of_it(digits: Experiment) -> None:
    node = digits.nodes[4].assign(sse=("atom", np.zeros(4)))
    exact = Experiment(digits.folder, digits.dictionaries, digits.data)
    exact.__dict__["nodes"] = {**digits.nodes, 4: node}
    assert atlas(Measured(exact), 4)["sse_share"].values.tolist() == [0, 0, 0, 0]


def test_neighbours_are_those_of_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    centroids = rng.integers(0, 4, (40, 3)).astype(np.float32)  # many are equally far
    near, distance = nearest_centroids(centroids, 4)
    for index, centroid in enumerate(centroids.astype(float)):
        others = [
            (float(np.sqrt(((centroid - other) ** 2).sum())), at)
            for at, other in enumerate(centroids.astype(float))
            if at != index
        ]
        expected = sorted(others)[:4]
        np.testing.assert_allclose(distance[index], [one for one, _ in expected])
        assert index not in near[index]
        assert list(zip(distance[index], near[index], strict=True)) == sorted(
            zip(distance[index], near[index], strict=True)
        )


@pytest.mark.parametrize(("k", "most"), [(1, 0), (2, 1), (3, 2), (9, 5)])
def test_there_are_no_more_neighbours_than_others(k: int, most: int) -> None:
    near, distance = nearest_centroids(np.arange(k, dtype=np.float32)[:, None], 5)
    assert near.shape == distance.shape == (k, most)


def test_neighbours_take_a_few_times_the_centroids() -> None:
    centroids = np.random.default_rng(0).random((60, 100, 100), np.float32)
    nearest_centroids(centroids, 5)  # loads what it needs
    tracemalloc.start()
    nearest_centroids(centroids, 5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * centroids.size * 8
