"""All centroids of a dictionary in one picture, ordered so that neighbours look alike."""

import math
from typing import NamedTuple

import numpy as np
import xarray

from analysis.measures.codebook import AnyDictionary, node_of, pixel_centroids
from analysis.measures.pixel_scale import enlarged, shades, shown_scale
from analysis.measures.similarity_grid import similarity_grid
from storage import InputError
from storage.plain_attributes import describe

LINE_COLOUR = (150, 188, 224)  # light, and of a tint that no grey pixel has
DENSE_COLOUR = (92, 120, 148)  # where lines take a large part of the picture
DENSE = 0.1  # from this share of a tile's width on
ASPECT = 1.5  # columns to rows; wider than high suits a page
MAX_HOLES = 0.01  # share of empty cells worth avoiding by another shape
_UNITS = {
    "image": ("1", "red, green and blue of the picture, 0 to 255"),
    "order": ("1", "number of the centroid in the cell; -1 for none"),
    "row": ("pixels", "row of the picture"),
    "col": ("pixels", "column of the picture"),
    "down": ("1", "row of the grid"),
    "across": ("1", "column of the grid"),
}  # name: units, long_name


class Gallery(NamedTuple):
    """A picture of all centroids.

    Attributes:
        image: (row, col, channel) uint8, the channels red, green and blue.
        order: (down, across) int64, which centroid stands in each cell; -1 for an empty cell.

    Both are DataArrays with dimensions of these names, or plain arrays for plain centroids.
    """

    image: np.ndarray | xarray.DataArray
    order: np.ndarray | xarray.DataArray

    def to_xarray(self) -> xarray.Dataset:
        """Both in one Dataset, for plain centroids too."""
        found = xarray.Dataset(
            {
                "image": (("row", "col", "channel"), np.asarray(self.image)),
                "order": (("down", "across"), np.asarray(self.order)),
            }
        )
        describe(found, _UNITS)
        return found


def gallery(
    dictionary: AnyDictionary | xarray.DataArray | np.ndarray,
    *,
    largest: float | None = None,
    scale: int = 4,
    line: int = 1,
    shape: tuple[int, int] | None = None,
    seed: int = 0,
) -> Gallery:
    """Lay out all centroids on a grid so that neighbours look alike, with thin lines between.

    Args:
        dictionary: a node of the tree that `open_dictionaries` returns, its Dataset, or a fitted
            StreamingKMeans; or centroids, (atom, row, col[, channel]), pixel levels.
        largest: level shown as white; 0 is black. None: both as the report shows the node's
            pixels, else 255.
        scale: image pixels per centroid pixel.
        line: width of the lines in image pixels.
        shape: rows and columns of the grid; by default a little wider than high.
        seed: of the ordering; the same seed gives the same picture.

    Returns:
        The picture, and which centroid stands where.

    Raises:
        InputError: centroids that are not images, or a grid with too few cells.
    """
    black, stored = 0.0, None
    if not isinstance(dictionary, xarray.DataArray | np.ndarray):
        given = node_of(dictionary)
        stored = shown_scale(given)
        node = given if isinstance(given, xarray.Dataset) else given.to_dataset()
        dictionary = node["centroids"].copy(data=pixel_centroids(node))
    if largest is None:
        black, largest = (stored.black, stored.white) if stored else (0.0, 255)
    centroids = np.asarray(dictionary)
    if centroids.ndim not in (3, 4) or len(centroids) == 0:
        raise InputError(
            f"centroids of shape {centroids.shape} are not images: give (k, rows, cols[, channels])"
        )
    rows, cols = shape or grid_shape(len(centroids))
    if rows * cols < len(centroids):
        raise InputError(
            f"a grid of {rows}x{cols} cells cannot show {len(centroids)} centroids:"
            " give more rows or columns"
        )
    order = similarity_grid(centroids, rows, cols, seed)
    image = tiled(centroids, order, white=largest, black=black, scale=scale, line=line)
    made = Gallery(image, order)
    if isinstance(dictionary, np.ndarray):
        return made
    named = made.to_xarray()
    return Gallery(named["image"], named["order"])


def grid_shape(k: int, most_cols: int | None = None) -> tuple[int, int]:
    """Rows and columns for k cells: near ASPECT, with few empty cells, and at most most_cols."""

    def cost(rows: int) -> tuple[bool, bool, float]:
        cols = -(-k // rows)
        holes = rows * cols - k
        wide = most_cols is not None and cols > most_cols
        return wide, holes > MAX_HOLES * k, abs(math.log(cols / rows / ASPECT))

    fewest = max(1, int(math.sqrt(k / ASPECT / 2)))
    most = int(math.sqrt(k / ASPECT * 2)) + 2
    if most_cols is not None:
        most = max(most, -(-k // most_cols) + 1)
    rows = min(range(fewest, most), key=cost)
    return rows, -(-k // rows)


def tiled(
    centroids: np.ndarray, order: np.ndarray, *, white: float, black: float, scale: int, line: int
) -> np.ndarray:
    """Tiles in the cells of `order`, with lines between and around them; (height, width, 3)."""
    rows, cols = order.shape
    high, wide = centroids.shape[1] * scale + line, centroids.shape[2] * scale + line
    colour = DENSE_COLOUR if line > DENSE * wide else LINE_COLOUR
    picture = np.full((rows * high + line, cols * wide + line, 3), colour, np.uint8)
    for (row, col), index in np.ndenumerate(order):
        top, left = row * high + line, col * wide + line
        cell = picture[top : top + high - line, left : left + wide - line]
        if index >= 0:
            cell[:] = enlarged(shades(centroids[index], white, black), scale)
        else:
            picture[top : top + high, left : left + wide] = 255
    return picture
