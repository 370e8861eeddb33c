"""Codes of several stages: at each position the nearest centroid to what the stage before left."""

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from analysis.encoding.encoding import Encoding
from analysis.measures.codebook import Node
from pipeline import NearestCentroids, residuals
from storage import InputError
from storage.codes.code_store import CODES, code_dtype, no_code
from storage.codes.code_writer import Coordinates
from storage.dictionary_store import dictionary_sum

_LEFT = np.dtype(np.float32)  # of what stages leave
_LABELLING = threading.Lock()  # held while what is left is labelled, by all cores


@dataclass(frozen=True, eq=False)
class StagedCodes:
    """Codes of the same images in several stages.

    Attributes:
        encoding: the first stage.
        later: centroids of the others, (k, *patch_shape) float32 each.
    """

    encoding: Encoding
    later: tuple[np.ndarray, ...]

    name = CODES

    @classmethod
    def of(cls, encoding: Encoding, later: Sequence[Node]) -> "StagedCodes":
        """The first stage and the dictionaries of the others.

        Raises: InputError for those of other patches.
        """
        centroids = tuple(np.asarray(node["centroids"]) for node in later)
        shape = encoding.centroids.shape[1:]
        if wrong := [one.shape[1:] for one in centroids if one.shape[1:] != shape]:
            raise InputError(
                f"a stage is of patches of shape {wrong[0]}, the first of {shape}: give those of"
                " one experiment"
            )
        return cls(encoding, centroids)

    @property
    def stages(self) -> tuple[np.ndarray, ...]:
        """Centroids of each stage."""
        return self.encoding.centroids, *self.later

    @property
    def sums(self) -> tuple[str, ...]:
        """SHA-256 of the centroids of each stage."""
        return tuple(map(dictionary_sum, self.stages))

    @property
    def shape(self) -> tuple[int, ...]:
        """Stages, images, positions down and across."""
        return len(self.stages), *self.encoding.shape

    @property
    def chunks(self) -> tuple[int, ...]:
        """Lengths of a chunk, which has all stages."""
        return len(self.stages), *self.encoding.chunks

    @property
    def dtype(self) -> np.dtype:
        """Of the codes."""
        return code_dtype(max(map(len, self.stages)))

    @property
    def coordinates(self) -> Coordinates:
        """Number of the stage, and those of one stage's codes."""
        numbers: Coordinates = {"stage": ("stage", np.arange(1, len(self.stages) + 1), "stage")}
        return numbers | self.encoding.coordinates

    @property
    def facts(self) -> dict[str, Any]:
        """What decoding needs beside the dictionaries, as plain JSON."""
        later = {str(number): found for number, found in enumerate(self.sums[1:], 2)}
        return self.encoding.facts | {"no_code": no_code(self.dtype), "later": later}

    def smaller(self) -> "StagedCodes | None":
        """The same with half as many positions in work at once; None where these are few."""
        less = self.encoding.smaller()
        return None if less is None else replace(self, encoding=less)

    def made(self, place: tuple[slice, ...]) -> np.ndarray:
        """The codes of a place, of `dtype`; `no_code` where no patch is kept."""
        sizes = [len(self.stages), *(part.stop - part.start for part in place[1:])]
        found = np.full(sizes, no_code(self.dtype), self.dtype)
        for own, kept, patches in self.encoding.patches(place[1:]):
            for of_stage, labels in zip(found, self._labels(patches), strict=True):
                of_stage[own][kept] = labels
        return found

    def _labels(self, patches: np.ndarray) -> list[np.ndarray]:
        """The centroid of each patch in each stage, (m,) int64."""
        left = self.encoding.nearest.rows(patches)
        found = [self.encoding.labels_of_rows(left)]
        for centroids, nearest in zip(self.stages, self._nearest, strict=False):
            left = residuals(left, centroids.reshape(len(centroids), -1), found[-1])
            with _LABELLING:
                found.append(nearest.label(left))
        return found

    @cached_property
    def _nearest(self) -> list[NearestCentroids]:
        """Of the later stages."""
        flat = [one.reshape(len(one), -1) for one in self.later]
        return [NearestCentroids(one, _LEFT, device="cpu") for one in flat]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_nearest"}

    @property
    def engine_bytes(self) -> int:
        """What labelling takes of each process, in bytes, at most."""
        dim, rows = self.encoding.centroids[0].size, self.encoding.most
        return self.encoding.engine_bytes + sum(
            NearestCentroids.projected_bytes(len(one), dim, rows, dtype=_LEFT, device="cpu")
            for one in self.later
        )

    @property
    def task_bytes(self) -> int:
        """What one chunk in work takes beside the engines, in bytes, at most."""
        # What is left, before and after a stage, and in the engine's order; labels.
        row = 3 * self.encoding.centroids[0].size * _LEFT.itemsize + 8 * len(self.later)
        chunk = math.prod(self.chunks) * self.dtype.itemsize
        return self.encoding.task_bytes + self.encoding.most * row + 3 * chunk
