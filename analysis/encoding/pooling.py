"""Features of images: what their patches say of each centroid, pooled over parts of the image.

A chunk is a range of images, a pure function of their pixels.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import xarray

from analysis.encoding.encoding import LEAST_POSITIONS, Encoding
from analysis.encoding.pools import Pools
from storage import InputError
from storage.codes.code_store import FEATURES
from storage.codes.code_writer import Coordinates
from storage.dictionary_store import dictionary_sum
from storage.plain_attributes import parsed

if TYPE_CHECKING:
    from pipeline import Activations

KINDS = ("hard", "triangle", "soft")
CHUNK_BYTES = 4 << 20  # of the features of a chunk, at most
_NAMED_POOLS = {1: "image", 2: "quadrants"}

Kind = Literal["hard", "triangle", "soft"]


@dataclass(frozen=True)
class FeatureOptions:
    """Which features.

    Attributes:
        kind: of KINDS.
        side: pools down and across.
        tf_idf: whether words are weighted by how rare they are.
    """

    kind: Kind
    side: int
    tf_idf: bool = False

    @classmethod
    def of(cls, kind: str, pool: str | int = "image", tf_idf: bool = False) -> "FeatureOptions":
        """Options as they are typed.

        Args:
            kind: "hard", "triangle" or "soft".
            pool: "image", "quadrants", or "grid:N" for N × N parts, N alone being the same.
            tf_idf: for hard alone.

        Raises: InputError for others.
        """
        if kind not in KINDS:
            raise InputError(f"no features {kind!r}: use {', '.join(KINDS)}")
        if tf_idf and kind != "hard":
            raise InputError(f"tf-idf weighs words that are counted, not {kind}: use hard features")
        names = {name: side for side, name in _NAMED_POOLS.items()}
        digits = str(pool).removeprefix("grid:")
        side = names.get(str(pool), int(digits) if digits.isdecimal() else 0)
        if side < 1:
            raise InputError(
                f"no pool {pool!r}: use image, quadrants, or grid:N (N × N parts of the image)"
            )
        return cls(cast(Kind, kind), side, tf_idf)

    @property
    def pool(self) -> str:
        """The pool as it is named."""
        return _NAMED_POOLS.get(self.side, f"grid:{self.side}")

    @property
    def name(self) -> str:
        """What tells these features from others in the name of a file."""
        return f"{'tfidf' if self.tf_idf else self.kind}-{self.pool.replace(':', '')}"

    @property
    def pools(self) -> int:
        """How many there are."""
        return self.side**2


@dataclass(frozen=True, eq=False)
class Features:
    """Images and a dictionary, as `Encoding` has them, and what is made of their patches.

    Attributes:
        encoding: cuts patches, and labels them.
        options: which features.
        pools: that patches fall into; copies of an image differ in these alone.
        variance: of soft features, squared unit of the rows; None for others.
        weights: (k,) float64 of the words, where tf-idf is asked for.
    """

    encoding: Encoding
    options: FeatureOptions
    pools: Pools
    variance: float | None
    weights: np.ndarray | None

    name = FEATURES
    dtype = np.dtype(np.float32)

    @classmethod
    def of(
        cls,
        encoding: Encoding,
        dictionary: xarray.DataTree | xarray.Dataset,
        options: FeatureOptions,
        shift: int = 0,
    ) -> "Features":
        """Features by a dictionary, that of the encoding.

        Raises: InputError: more pools than positions; a shift that pools cannot be moved by; a
            dictionary that does not say what its kind of features needs.
        """
        grid = encoding.shape[1:]
        if options.side > min(grid):
            raise InputError(
                f"{options.pool} has more parts than the {grid[0]} × {grid[1]} positions of a"
                " patch: pool over fewer"
            )
        variance = weights = None
        if options.kind == "soft":
            variance = parsed(dictionary.attrs).get("mse")
            if variance is None:
                raise InputError(
                    "the dictionary does not say its MSE, by which soft features are scaled: pass"
                    " a node of the tree that open_dictionaries returns"
                )
        if options.tf_idf:
            if "count" not in dictionary:
                raise InputError(
                    "the dictionary does not say how often its centroids are used, by which tf-idf"
                    " weighs: pass a node of the tree that open_dictionaries returns"
                )
            counts = np.maximum(np.asarray(dictionary["count"], np.float64), 1)
            weights = np.log(counts.sum() / counts)
        pools = Pools.of(options.side, grid, encoding.spec.stride, shift)
        found = cls(encoding, options, pools, variance, weights)
        positions = found.chunks[0] * math.prod(grid)  # more are never in work
        most = min(encoding.most, max(LEAST_POSITIONS, positions))
        return replace(found, encoding=replace(encoding, most=most))

    @property
    def shape(self) -> tuple[int, int]:
        """Images, features."""
        return self.encoding.shape[0], self.options.pools * self.encoding.k

    @property
    def chunks(self) -> tuple[int, int]:
        """Lengths of a chunk: whole images."""
        n, width = self.shape
        positions, row = math.prod(self.encoding.shape[1:]), 4 * width * len(self.pools.ways)
        return max(1, min(n, self.encoding.chunk // positions, CHUNK_BYTES // row)), width

    @property
    def coordinates(self) -> Coordinates:
        """Number of the image; pool and centroid of each feature."""
        k, pools = self.encoding.k, self.options.pools
        return {
            "image": ("image", np.arange(self.shape[0]), "image"),
            "pool": ("feature", np.repeat(np.arange(pools), k), "pool"),
            "atom": ("feature", np.tile(np.arange(k), pools), "atom"),
        }

    @property
    def facts(self) -> dict[str, Any]:
        """What the features are of, as plain JSON."""
        found = {name: one for name, one in self.encoding.facts.items() if name != "no_code"}
        found |= {"features": self.options.kind, "pool": self.options.pool}
        if self.variance is not None:
            found["variance"] = self.variance
        if self.weights is not None:
            found["tf_idf"] = dictionary_sum(self.weights)  # of other counts, other features
        return found

    def smaller(self) -> "Features | None":
        """The same with half as much in work at once; None where that is too little."""
        encoding = self.encoding.smaller()
        return None if encoding is None else replace(self, encoding=encoding)

    def made(self, place: tuple[slice, ...]) -> np.ndarray:
        """Features of some images, (n, features), all of them; pools without a patch are 0."""
        return self.copies(place[0])[:, 0]

    def copies(self, images: slice) -> np.ndarray:
        """Features of each copy of some images, (n, copies, features) float32, see `Pools.ways`.

        Patches activate the centroids once: what they add is summed up by cells, these by pools.
        """
        sums, kept = self._cell_sums(images)
        found = []
        for way in self.pools.ways:
            pooled = self.pools.pooled(sums, way)
            if self.options.kind == "triangle":
                pooled *= self._activations.unit
            else:
                pooled /= np.maximum(self.pools.pooled(kept, way), 1)
            if self.weights is not None:
                pooled *= self.weights
            found.append(pooled.reshape(len(sums), -1).astype(np.float32))
        return np.stack(found, axis=1)

    def _cell_sums(self, images: slice) -> tuple[np.ndarray, np.ndarray]:
        """What patches of some images add to each cell, (n, down, across, k), and how many there
        are, (n, down, across, 1), float64.
        """
        shape, k = (images.stop - images.start, *self.pools.cells), self.encoding.k
        counting, kept = self.options.kind == "hard", np.zeros(math.prod(shape))
        sums = np.zeros((len(kept), k if counting else self._activations.width))
        for groups, patches in self._grouped(images):
            kept += np.bincount(groups, minlength=len(kept))
            if counting:
                words = groups * k + self.encoding.labels(patches)
                sums += np.bincount(words, minlength=sums.size).reshape(sums.shape)
            else:
                rows = self.encoding.nearest.rows(patches)
                self._activations.add(rows, groups, sums)
        return sums[:, :k].reshape(*shape, k), kept.reshape(*shape, 1)

    def _grouped(self, images: slice) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Patches of some images, (m, d), and the cell of each, (m,) intp: those of all images."""
        (down, across), (_, high, wide) = self.encoding.shape[1:], self.encoding.chunks
        cell_of, cells = self.pools.cell_of, math.prod(self.pools.cells)
        for top in range(0, down, high):
            for left in range(0, across, wide):
                rows, cols = (
                    slice(top, min(top + high, down)),
                    slice(left, min(left + wide, across)),
                )
                for own, kept, patches in self.encoding.patches((images, rows, cols)):
                    first = np.arange(own[0].start, own[0].stop) * cells
                    groups = first[:, np.newaxis, np.newaxis] + cell_of[rows, cols][own[1:]]
                    yield groups[kept], patches

    @cached_property
    def _activations(self) -> "Activations":
        """Of all centroids; of a kind that is not hard."""
        from pipeline import Activations  # numba takes a second to load

        assert self.options.kind != "hard"
        flat = self.encoding.centroids.reshape(self.encoding.k, -1)
        return Activations(flat, self.options.kind, self.variance or 0.0)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_activations"}

    @property
    def engine_bytes(self) -> int:
        """What labelling takes of each process, or activating, in bytes, at most."""
        found, k = self.encoding.engine_bytes, self.encoding.k
        if self.options.kind == "hard":
            return found
        from pipeline import Activations

        return max(found, Activations.projected_bytes(k, self.encoding.centroids[0].size))

    @property
    def task_bytes(self) -> int:
        """What one chunk in work takes beside the engine, in bytes, at most."""
        pools, copies = self.options.pools, len(self.pools.ways)
        # Sums and counts of a part; shares; the features, and they once more as they are packed.
        each = 2 * 8 * math.prod(self.pools.cells) + (8 + 3 * 4 * copies) * pools
        return self.encoding.task_bytes + self.chunks[0] * (self.encoding.k + 32) * each  # fillings
