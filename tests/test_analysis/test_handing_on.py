"""What is returned as xarray can be written in the formats that others read."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from analysis import (
    by_class,
    centroid_kinds,
    coverage,
    decode,
    distance_map,
    encode,
    gallery,
    mse_curve,
    reconstruct,
    reconstruction_scores,
    usage,
)
from storage import open_dictionaries, open_images, open_labels, open_patches

PLAIN = (str, int, float, np.number)


def returned(swept: dict[str, Any]) -> Iterator[tuple[str, xarray.Dataset]]:
    tree = open_dictionaries(swept["experiment"] + "/dictionaries.zarr")
    node, images = tree["k00010"], open_images("digits", "test")
    store = open_patches(swept["store"])
    scores = reconstruction_scores(images, node, labels=open_labels("digits", "test"))
    stack = xarray.DataArray(images.images[:2], dims=("image", "row", "col"))
    yield "root", tree.to_dataset()
    yield "dictionary", node.to_dataset()
    yield "patches", store.to_xarray()[:9].to_dataset()
    yield "curve", mse_curve(tree)
    yield "kinds", centroid_kinds(tree)
    yield "kind", centroid_kinds(node).to_dataset()
    yield "usage", usage(node)
    yield "coverage", coverage(node, store, rows=2000)
    yield "scores", scores
    yield "classes", by_class(scores, tuple("0123456789"))
    yield "rebuilt", reconstruct(stack, node).to_dataset(name="rebuilt")
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


def test_dictionaries_have_units_names_and_coordinates(digits_swept: dict[str, Any]) -> None:
    node = open_dictionaries(digits_swept["experiment"] + "/dictionaries.zarr")["k00010"]
    for name, variable in node.to_dataset().variables.items():
        assert variable.attrs["units"], name
        assert variable.attrs["long_name"], name
    assert set(node.coords) == set(node.sizes) == {"atom", "row", "col", "iteration"}
    assert node["centroids"].attrs["units"] == "pixel levels"
    assert int(node["centroids"].sel(atom=9)["atom"]) == 9
