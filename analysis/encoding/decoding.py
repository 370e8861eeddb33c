"""Images from codes: the arithmetic of a reconstruction whose labels are known."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.encoding.encoding import dictionary_sum
from analysis.reconstruction.overlap import WHOLE_VALUES, RebuiltBlock, block_images
from analysis.reconstruction.parts import Part, parts_of, widest
from analysis.reconstruction.patch_means import PLACED_WINDOWS, OverlapMean
from pipeline import Preprocessing, check_budget, fits
from storage import InputError, IntegrityError, PatchSpec
from storage.plain_attributes import parsed

SIDE = 512  # of the parts that large images are decoded in, a power of two

Read = Callable[[slice, slice, slice], np.ndarray]


def check_decodable(preprocessing: Preprocessing | None) -> None:
    """Raise InputError where patches have lost more than their codes tell."""
    if preprocessing is not None:
        raise InputError(
            "the codes are of preprocessed patches, and do not hold their brightness and contrast:"
            " rebuild images from their pixels (reconstruct)"
        )


@dataclass
class CodeCounts:
    """How often each centroid is used by some codes, and how many positions have none.

    Attributes:
        counts: (k + 1,) int64, the last of positions without a code.
    """

    counts: np.ndarray

    def add(self, chosen: np.ndarray) -> None:
        """Take codes as `Decoding` has them: k where there is none."""
        self.counts += np.bincount(chosen.ravel(), minlength=len(self.counts))

    @property
    def positions(self) -> int:
        return int(self.counts.sum())

    @property
    def coded(self) -> int:
        return int(self.counts[:-1].sum())

    @property
    def fixed_bits(self) -> float:
        """Bits of a position whose code is one of K, or of K + 1 where some have none."""
        k = len(self.counts) - 1
        return math.log2(k + (self.coded < self.positions))

    @property
    def entropy_bits(self) -> float:
        """Bits of a position by the zeroth-order entropy of the codes, none counting as one."""
        shares = self.counts[self.counts > 0] / self.positions
        return float(-(shares * np.log2(shares)).sum()) + 0.0


@dataclass(frozen=True, eq=False)
class Decoding:
    """Codes, none of which is read yet, and the dictionary that they are of.

    Attributes:
        read: gives codes of some images at some positions, (n, rows, columns).
        shape: of the codes, (images, positions down, positions across).
        facts: of the codes, see `Encoding.decoding`.
        centroids: (k, *patch_shape) float32.
    """

    read: Read
    shape: tuple[int, ...]
    facts: dict[str, Any]
    centroids: np.ndarray
    counts: CodeCounts = field(init=False)

    @classmethod
    def of(
        cls, read: Read, shape: tuple[int, ...], attributes: dict[str, Any], centroids: np.ndarray
    ) -> "Decoding":
        """Codes with these attributes.

        Raises: InputError for codes that do not say what they are; IntegrityError for those of
            another dictionary.
        """
        facts = parsed(attributes)
        needed = ("k", "dictionary", "spec", "height", "width", "channels", "black", "no_code")
        if missing := [name for name in needed if name not in facts]:
            raise InputError(
                f"the codes do not say their {missing[0]}: give them as encode made them, with"
                " their attributes"
            )
        if facts["dictionary"] != dictionary_sum(centroids):
            raise IntegrityError(
                f"the dictionary of K = {len(centroids)} is not the one of K = {facts['k']} that"
                " the codes are of, or has changed since: give the right one, or encode again"
            )
        found = cls(read, tuple(shape), facts, centroids)
        grid = found.spec.grid(facts["height"], facts["width"])
        if len(shape) != 3 or tuple(shape[1:]) != grid:
            raise InputError(
                f"codes of shape {tuple(shape)} are not all of images of {facts['height']} by"
                f" {facts['width']} pixels: give (image, {grid[0]}, {grid[1]})"
            )
        return found

    def __post_init__(self) -> None:
        counts = CodeCounts(np.zeros(len(self.centroids) + 1, np.int64))
        object.__setattr__(self, "counts", counts)

    @property
    def spec(self) -> PatchSpec:
        """How the patches were cut."""
        return PatchSpec.from_dict(self.facts["spec"])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(height, width), or (height, width, channels)."""
        channels = self.facts["channels"]
        return (self.facts["height"], self.facts["width"], *([channels] if channels else []))

    @property
    def large(self) -> bool:
        """Whether images are decoded part by part."""
        return math.prod(self.image_shape) > WHOLE_VALUES

    def images_within(self, memory: int) -> int:
        """How many images to decode together, at most one part each where they are large.

        memory: cap in bytes on the process. Raises: MemoryBudgetError.
        """
        size = self.image_shape[0], self.image_shape[1]
        area = self.spec.extended(*size)
        if self.large:
            area = widest(SIDE, size, self.spec)
        images = 1 if self.large else block_images(self.image_shape, self.spec)
        while True:
            needed = self._working_bytes(images, area)
            if images == 1 or fits(needed, memory):
                break
            images = (images + 1) // 2
        check_budget(f"decoding by K = {len(self.centroids)}", needed, memory)
        return images

    def _working_bytes(self, images: int, area: tuple[int, int]) -> int:
        channels, pixels = self.centroids[0, 0, 0].size, math.prod(area)
        windows = math.prod(self.spec.within.grid(*area))
        # The image, its errors and the original; how many centroids lie on a pixel; the codes.
        one = pixels * (channels * 4 * 8 + 8) + windows * (8 + 4 + 2)
        values = 8 * channels * max(PLACED_WINDOWS, windows)
        return images * one + values + 3 * 8 * (len(self.centroids) + 1) * self.centroids[0].size

    def blocks(self, images: int) -> Iterator[tuple[int, RebuiltBlock]]:
        """Number of the first image, and these decoded, in order; codes are counted on the way.

        images: so many together, where they are not large. Parts of one come one after the other.
        """
        mean = OverlapMean(self.centroids, self.spec, self.facts["black"])
        n, down, across = self.shape
        if not self.large:
            for first in range(0, n, images):
                part = slice(first, min(first + images, n))
                chosen = self._chosen((part, slice(0, down), slice(0, across)))
                self.counts.add(chosen)
                yield first, self._whole(mean, chosen)
            return
        size = self.image_shape[0], self.image_shape[1]
        for index in range(n):
            for one in parts_of(size, self.spec, SIDE):
                yield index, self._part(mean, index, one)

    def _whole(self, mean: OverlapMean, chosen: np.ndarray) -> RebuiltBlock:
        size = self.image_shape[:2]
        rebuilt, cover = mean.place(chosen, self.spec.extended(*size))
        block = self._block(rebuilt, cover, chosen)
        rows, cols = (
            slice(before, before + length)
            for before, length in zip(self.spec.before, size, strict=True)
        )
        return block.cropped(rows, cols)

    def _part(self, mean: OverlapMean, index: int, part: Part) -> RebuiltBlock:
        spec, reaches = self.spec, (part.rows, part.cols)
        windows = [
            slice(reach.first // spec.stride, (reach.end - patch) // spec.stride + 1)
            for reach, patch in zip(reaches, (spec.rows, spec.cols), strict=True)
        ]
        chosen = self._chosen((slice(index, index + 1), windows[0], windows[1]))
        own = chosen[:, part.rows.windows, part.cols.windows]
        self.counts.add(own)
        rebuilt, cover = mean.place(chosen, tuple(reach.end - reach.first for reach in reaches))
        block = self._block(rebuilt, cover, own).cropped(part.rows.own, part.cols.own)
        return RebuiltBlock(**{**vars(block), "rows": part.rows.pixels, "cols": part.cols.pixels})

    def _chosen(self, place: tuple[slice, slice, slice]) -> np.ndarray:
        """Codes as `OverlapMean` takes them, intp. Raises: InputError for what is no code."""
        codes, k = self.read(*place), len(self.centroids)
        chosen = codes.astype(np.intp)
        coded = codes != self.facts["no_code"]
        wrong = chosen[coded & ((chosen < 0) | (chosen >= k))]
        if wrong.size:
            raise InputError(
                f"the codes hold {wrong[0]} where numbers below {k}, or {self.facts['no_code']} for"
                " none, are expected: give them as encode made them"
            )
        chosen[~coded] = k
        return chosen

    def _block(self, rebuilt: np.ndarray, cover: np.ndarray, own: np.ndarray) -> RebuiltBlock:
        kept = own != len(self.centroids)
        patches = np.empty((0, self.centroids[0].size), np.float32)  # nobody has them any more
        return RebuiltBlock(rebuilt, kept, patches, own[kept].astype(np.int64), cover)
