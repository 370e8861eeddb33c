"""Attributes of what is handed out, as netCDF and zarr take them: texts and numbers alone."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

LEVEL, SQUARED = "pixel levels", "squared pixel levels"
# Of the variables and coordinates that are handed out: units, long_name.
_MEANINGS = {
    "centroids": (LEVEL, "centroids of the patches"),
    "patches": (LEVEL, "patches"),
    "codes": ("1", "numbers of the centroids nearest to the patches"),
    "count": ("1", "rows nearest to the centroid"),
    "sse": (SQUARED, "sum of the squared distances of its rows to the centroid"),
    "rows": ("1", "rows of the pass"),
    "mse": (SQUARED, "mean squared error of the pass, per pixel"),
    "shift": (SQUARED, "squared shift of all centroids in the pass"),
    "live": ("1", "centroids with a row in the pass"),
    "redrawn": ("1", "empty centroids that were drawn anew in the pass"),
    "seconds": ("s", "time of the pass"),
    "atom": ("1", "number of the centroid"),
    "iteration": ("1", "number of the pass"),
    "row": ("pixels", "row within the patch"),
    "col": ("pixels", "column within the patch"),
    "stage": ("1", "number of the stage, whose centroids are added up"),
    "image": ("1", "number of the image"),
    "origin_row": ("pixels", "row of the image in which the patch begins"),
    "origin_col": ("pixels", "column of the image in which the patch begins"),
    "channel": ("1", "number of the channel"),
    "feature": ("1", "number of the column"),
    "component": ("1", "number of the column when whitened"),
    "feature_mean": ("1", "mean of the patches before they are whitened"),
    "whitening": ("1", "matrix that whitens the patches"),
    "unwhitening": ("1", "its inverse"),
    "features": ("1", "features of the images"),
    "pool": ("1", "number of the part of the image that patches are pooled over"),
}

# The same of what has the axes of images.
OF_IMAGES = {
    "row": ("pixels", "row of the image"),
    "col": ("pixels", "column of the image"),
    "label": ("1", "number of the class"),
    "name": ("1", "name of the class"),
    "images": ("images", "images of the class"),
}


def plain(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """The same as texts and numbers: what holds others becomes JSON, and what is None is left out.

    `parsed` is the way back.
    """
    return {
        str(name): json.dumps(value)
        if isinstance(value, dict)
        else int(value)
        if isinstance(value, bool)
        else value
        for name, value in attributes.items()
        if value is not None
    }


def parsed(attributes: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes with what `plain` wrote as JSON read again; others are as they were."""
    return {
        str(name): json.loads(value) if isinstance(value, str) and value[:1] == "{" else value
        for name, value in attributes.items()
    }


def meaning(name: str) -> dict[str, str]:
    """Attributes of a variable or coordinate."""
    return dict(zip(("units", "long_name"), _MEANINGS[name], strict=True))


def describe(found: Any, meanings: Mapping[str, tuple[str, str]]) -> None:
    """Give a Dataset or DataArray of xarray what is not there yet: units, names, coordinates.

    An axis without coordinates is counted from 0; variables that are not among `meanings` have
    those of all that is handed out.
    """
    for axis, size in found.sizes.items():
        if axis not in found.coords:
            found.coords[axis] = np.arange(size)
    variables = getattr(found, "variables", found.coords)
    for name in variables:
        if name in meanings:
            units, long_name = meanings[name]
            found[name].attrs |= {"units": units, "long_name": long_name}
        elif "units" not in found[name].attrs:
            found[name].attrs |= meaning(str(name))
