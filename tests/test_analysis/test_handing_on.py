"""What is returned as xarray can be written in the formats that others read."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
from sklearn.cluster import KMeans

from analysis import (
    by_class,
    centroid_kinds,
    coverage,
    decode,
    distance_map,
    encode,
    export_dictionary,
    features,
    gallery,
    mse_curve,
    open_experiment,
    reconstruct,
    reconstruction_scores,
    usage,
)
from pipeline import StreamingKMeans
from storage import (
    InputError,
    PatchSpec,
    load_dictionary,
    open_dictionaries,
    open_images,
    open_labels,
    open_patches,
)

AXES, AXIS = ("image", "row", "col"), {"units": "1", "long_name": "of the user's"}
PLAIN = (str, int, float, np.number)


def returned(swept: dict[str, Any]) -> Iterator[tuple[str, xarray.Dataset]]:
    tree = open_dictionaries(swept["experiment"] + "/dictionaries.zarr")
    node, images = tree["k00010"], open_images("digits", "test")
    store = open_patches(swept["store"])
    scores = reconstruction_scores(images, node, labels=open_labels("digits", "test"))
    stack = xarray.DataArray(
        images.images[:2],
        {axis: (axis, np.arange(size), AXIS) for axis, size in zip(AXES, (2, 8, 8), strict=True)},
        attrs=AXIS,
        dims=AXES,
    )
    yield "root", tree.to_dataset()
    yield "dictionary", node.to_dataset()
    yield "patches", store.to_xarray()[:9].to_dataset()
    yield "curve", mse_curve(tree)
    yield "kinds", centroid_kinds(tree)
    yield "kind", centroid_kinds(node).to_dataset()
    yield "usage", usage(node)
    yield "coverage", coverage(node, store.to_dask()[:2000])
    yield "scores", scores
    yield "classes", by_class(scores, tuple("0123456789"))
    yield "rebuilt", reconstruct(stack, node).to_dataset(name="rebuilt")
    yield "history", open_experiment(swept["experiment"]).history
    yield "features", features(stack, node, pool=2).to_dataset()
    yield "of a store", coverage(node, store, rows=2000, worst=3)
    yield "codes", encode(stack, node).to_dataset()
    yield "distances", distance_map(stack, node).to_dataset()
    yield "decoded", decode(encode(stack, node), node).to_dataset()
    yield "gallery", gallery(node).to_xarray()
    yield "plain gallery", gallery(node["centroids"].values).to_xarray()
    yield "picture", gallery(node).image.to_dataset()


# zarr's, of arrays of names, which have no place in its specification so far
@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
def test_every_object_is_written_as_zarr_and_its_attributes_are_plain(
    digits_swept: dict[str, Any], tmp_path: Path
) -> None:
    for name, found in returned(digits_swept):
        for variable in (found, *found.variables.values()):
            for key, value in variable.attrs.items():
                assert isinstance(value, PLAIN), (name, key)
                assert not isinstance(value, bool), (name, key)
        found.to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
        xarray.testing.assert_identical(
            xarray.open_zarr(tmp_path / f"{name}.zarr", consolidated=False).load(), found.load()
        )


def test_every_object_is_written_as_netcdf(digits_swept: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("h5netcdf")
    for name, found in returned(digits_swept):
        found.to_netcdf(tmp_path / f"{name}.nc", engine="h5netcdf")
        with xarray.open_dataset(tmp_path / f"{name}.nc", engine="h5netcdf") as again:
            xarray.testing.assert_equal(again, found)
    tree = open_dictionaries(digits_swept["experiment"] + "/dictionaries.zarr")
    tree.to_netcdf(tmp_path / "tree.nc", engine="h5netcdf")


def test_the_geometry_of_a_tree_goes_on_with_a_dataset(digits_swept: dict[str, Any]) -> None:
    tree = open_dictionaries(digits_swept["experiment"] + "/dictionaries.zarr")
    image, node = open_images("digits", "test").images[0], tree["k00010"]
    taken = reconstruct(image, node.to_dataset(), spec=tree.attrs["spec"])
    np.testing.assert_array_equal(taken, reconstruct(image, node))


def test_a_tree_is_written_whole_and_read_again(
    digits_swept: dict[str, Any], tmp_path: Path
) -> None:
    tree = open_dictionaries(digits_swept["experiment"] + "/dictionaries.zarr")
    tree.to_zarr(tmp_path / "copy.zarr", consolidated=False)
    again = xarray.open_datatree(tmp_path / "copy.zarr", engine="zarr", consolidated=False)
    image = open_images("digits", "test").images[0]
    np.testing.assert_array_equal(
        reconstruct(image, again["k00010"]), reconstruct(image, tree["k00010"])
    )
    xarray.testing.assert_identical(mse_curve(again), mse_curve(tree))


def test_every_object_has_units_names_and_coordinates(digits_swept: dict[str, Any]) -> None:
    for name, found in returned(digits_swept):
        for called, variable in found.variables.items():
            assert variable.attrs.get("units"), (name, called)
            assert variable.attrs.get("long_name"), (name, called)
        # of patches there may be millions; pool and atom tell of features
        assert set(found.sizes) - set(found.coords) <= {"patch", "feature"}, name
    node = open_dictionaries(digits_swept["experiment"])["k00010"]
    assert set(node.coords) == set(node.sizes) == {"atom", "row", "col", "iteration"}
    assert node["centroids"].attrs["units"] == "pixel levels"
    assert int(node["centroids"].sel(atom=9)["atom"]) == 9


def test_a_fitted_estimator_is_a_dictionary(digits_swept: dict[str, Any], tmp_path: Path) -> None:
    """All that a node of a tree is: this one learns what the sweep did."""
    node = open_dictionaries(digits_swept["experiment"])[10]
    images = open_images("digits", "test").images[:3]
    store = open_patches(digits_swept["store"])
    model = StreamingKMeans(10, random_state=0).fit(store)
    made = model.to_xarray()
    for name in ("centroids", "count", "sse"):
        xarray.testing.assert_identical(made[name], node[name])
    model.save(tmp_path / "model.npz")
    whole = (model, made, load_dictionary(tmp_path / "model.npz"))
    for given in (*whole, StreamingKMeans.load(tmp_path / "model.npz")):
        rebuilt = reconstruct(images, given)
        np.testing.assert_array_equal(rebuilt, reconstruct(images, node))
        np.testing.assert_array_equal(decode(encode(images, given).compute(), given), rebuilt)
        assert reconstruction_scores(images, given).equals(reconstruction_scores(images, node))
        assert distance_map(images, given).equals(distance_map(images, node))
        assert features(images, given).equals(features(images, node))
        np.testing.assert_array_equal(gallery(given).order, gallery(node).order)
        assert centroid_kinds(given).equals(centroid_kinds(node))
        assert coverage(given, store, rows=500).equals(coverage(node, store, rows=500))
    assert usage(model).equals(usage(node))
    told = export_dictionary(model, "npz", tmp_path / "exported.npz")
    assert (told["k"], told["card"]["spec"]["rows"]) == (10, 5)
    np.testing.assert_array_equal(
        load_dictionary(tmp_path / "exported.npz")["centroids"], node["centroids"]
    )


def test_an_estimator_of_other_rows_is_told_how_they_were_cut(digits_swept: dict[str, Any]) -> None:
    images, store = open_images("digits", "test").images[:3], open_patches(digits_swept["store"])
    model = StreamingKMeans(10, random_state=0)
    flat, patches = store.array[:2000], store.to_xarray()[:2000]
    model.fit(flat)
    assert model.to_xarray()["centroids"].dims == ("atom", "feature")
    with pytest.raises(InputError, match=r"spec=PatchSpec\(rows, cols, …\)"):
        reconstruct(images, model)
    with pytest.raises(InputError, match="25 values are no patches of 4x6 pixels"):
        reconstruct(images, model, spec=PatchSpec(4, 6))
    rebuilt = reconstruct(images, model, spec=PatchSpec(5, 5))
    codes = encode(images, model, spec=PatchSpec(5, 5)).compute()
    np.testing.assert_array_equal(decode(codes, model), rebuilt)
    model.fit(patches)  # which say it themselves
    np.testing.assert_array_equal(reconstruct(images, model), rebuilt)
    model.fit(patches.values)
    assert model.to_xarray()["centroids"].dims == ("atom", "row", "col")
    np.testing.assert_array_equal(reconstruct(images, model, spec=PatchSpec(5, 5)), rebuilt)
    whole = open_dictionaries(digits_swept["experiment"])
    for function in (usage, gallery, partial(reconstruct, images), partial(encode, images)):
        with pytest.raises(InputError, match=r"no centroids in it: .* as in tree\[100\]"):
            function(whole)
    for wrong in (store, "k00010", KMeans(2)):
        with pytest.raises(InputError, match="is no dictionary: give one of a tree"):
            usage(wrong)
