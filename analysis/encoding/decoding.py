"""Images from codes: the arithmetic of a reconstruction whose labels are known."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.reconstruction.overlap import WHOLE_VALUES, RebuiltBlock, block_images
from analysis.reconstruction.parts import Part, parts_of, widest
from analysis.reconstruction.patch_means import PLACED_WINDOWS, OverlapMean
from analysis.reconstruction.reconstruct import as_patches
from pipeline import Preprocessing, check_budget, fits
from storage import InputError, IntegrityError, PatchSpec
from storage.dictionary_store import dictionary_sum
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
        counts: of each stage (k + 1,) int64, the last of positions without a code.
    """

    counts: list[np.ndarray]

    def add(self, chosen: np.ndarray) -> None:
        """Take codes as `Decoding` has them, of each stage: k where there is none."""
        for counts, of_stage in zip(self.counts, chosen, strict=True):
            counts += np.bincount(of_stage.ravel(), minlength=len(counts))

    @property
    def positions(self) -> int:
        return int(self.counts[0].sum())

    @property
    def coded(self) -> int:
        return int(self.counts[0][:-1].sum())

    @property
    def fixed_bits(self) -> float:
        """Bits of a position whose code is one of K, or of K + 1 where some have none.

        Later stages have codes where the first has one.
        """
        k, *others = (len(counts) - 1 for counts in self.counts)
        later = sum(map(math.log2, others)) * self.coded / self.positions
        return math.log2(k + (self.coded < self.positions)) + later

    @property
    def entropy_bits(self) -> float:
        """Bits of a position by the zeroth-order entropy of the codes, none counting as one."""
        first, *others = self.counts
        later = sum(_entropy(counts[:-1]) for counts in others) * self.coded / self.positions
        return _entropy(first) + later


def _entropy(counts: np.ndarray) -> float:
    """Zeroth-order entropy in bits; 0 of nothing."""
    shares = counts[counts > 0] / max(1, counts.sum())
    return float(-(shares * np.log2(shares)).sum()) + 0.0


@dataclass(frozen=True, eq=False)
class Decoding:
    """Codes, none of which is read yet, and the dictionaries that they are of.

    Attributes:
        read: gives codes of some images at some positions, ([stages, ]n, rows, columns).
        shape: of the codes, (images, positions down, positions across).
        facts: of the codes, see `Encoding.facts`.
        stages: centroids of each stage, (k, *patch_shape) float32.
    """

    read: Read
    shape: tuple[int, ...]
    facts: dict[str, Any]
    stages: Sequence[np.ndarray]
    counts: CodeCounts = field(init=False)

    @classmethod
    def of(
        cls,
        read: Read,
        shape: tuple[int, ...],
        attributes: dict[str, Any],
        stages: Sequence[np.ndarray],
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
        stages = [as_patches(one, PatchSpec.from_dict(facts["spec"])) for one in stages]
        sums = [facts["dictionary"], *facts.get("later", {}).values()]
        if len(sums) != len(stages):
            raise InputError(
                f"the codes are of {len(sums)} stages, not {len(stages)}: give the dictionary of"
                " each, in a list"
            )
        for centroids, known in zip(stages, sums, strict=True):
            if known != dictionary_sum(centroids):
                raise IntegrityError(
                    f"the dictionary of K = {len(centroids)} is not the one of K = {facts['k']}"
                    " that the codes are of, or has changed since: give the right one, or encode"
                    " again"
                )
        found = cls(read, tuple(shape[-3:]), facts, stages)
        grid = found.spec.grid(facts["height"], facts["width"])
        lead = (len(sums),) if len(sums) > 1 else ()
        if len(shape) != len(lead) + 3 or tuple(shape) != (*lead, shape[-3], *grid):
            axes = ", ".join(map(str, (*lead, "image", *grid)))
            raise InputError(
                f"codes of shape {tuple(shape)} are not all of images of {facts['height']} by"
                f" {facts['width']} pixels: give ({axes})"
            )
        return found

    def __post_init__(self) -> None:
        counts = CodeCounts([np.zeros(len(one) + 1, np.int64) for one in self.stages])
        object.__setattr__(self, "counts", counts)

    @property
    def centroids(self) -> np.ndarray:
        """Those of the first stage."""
        return self.stages[0]

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
        several = len(self.stages) > 1
        # The image, its errors and the original, and what a stage adds; how many centroids lie on a
        # pixel; the codes.
        one = pixels * (channels * (4 + several) * 8 + 8 + 4 * several)
        one += windows * (8 + 4 + 2) * len(self.stages)
        values = 8 * channels * max(PLACED_WINDOWS, windows)
        tables = sum(len(centroids) + 1 for centroids in self.stages) * self.centroids[0].size
        return images * one + values + 3 * 8 * tables

    def blocks(self, images: int) -> Iterator[tuple[int, RebuiltBlock]]:
        """Number of the first image, and these decoded, in order; codes are counted on the way.

        images: so many together, where they are not large. Parts of one come one after the other.
        """
        black = [self.facts["black"], *[0] * (len(self.stages) - 1)]
        means = [
            OverlapMean(centroids, self.spec, level)
            for centroids, level in zip(self.stages, black, strict=True)
        ]
        n, down, across = self.shape
        if not self.large:
            for first in range(0, n, images):
                part = slice(first, min(first + images, n))
                chosen = self._chosen((part, slice(0, down), slice(0, across)))
                self.counts.add(chosen)
                yield first, self._whole(means, chosen)
            return
        size = self.image_shape[0], self.image_shape[1]
        for index in range(n):
            for one in parts_of(size, self.spec, SIDE):
                yield index, self._part(means, index, one)

    def _whole(self, means: list[OverlapMean], chosen: np.ndarray) -> RebuiltBlock:
        size = self.image_shape[:2]
        rebuilt, cover = _placed(means, chosen, self.spec.extended(*size))
        block = self._block(rebuilt, cover, chosen)
        rows, cols = (
            slice(before, before + length)
            for before, length in zip(self.spec.before, size, strict=True)
        )
        return block.cropped(rows, cols)

    def _part(self, means: list[OverlapMean], index: int, part: Part) -> RebuiltBlock:
        spec, reaches = self.spec, (part.rows, part.cols)
        windows = [
            slice(reach.first // spec.stride, (reach.end - patch) // spec.stride + 1)
            for reach, patch in zip(reaches, (spec.rows, spec.cols), strict=True)
        ]
        chosen = self._chosen((slice(index, index + 1), windows[0], windows[1]))
        own = chosen[..., part.rows.windows, part.cols.windows]
        self.counts.add(own)
        size = tuple(reach.end - reach.first for reach in reaches)
        rebuilt, cover = _placed(means, chosen, size)
        block = self._block(rebuilt, cover, own).cropped(part.rows.own, part.cols.own)
        return RebuiltBlock(**{**vars(block), "rows": part.rows.pixels, "cols": part.cols.pixels})

    def _chosen(self, place: tuple[slice, slice, slice]) -> np.ndarray:
        """Codes as `OverlapMean` takes them, intp, of each stage.

        Raises: InputError for what is no code.
        """
        codes = self.read(*place)
        codes = codes if len(self.stages) > 1 else codes[np.newaxis]
        chosen = codes.astype(np.intp)
        coded = codes[0] != self.facts["no_code"]  # and so of all stages, or a number is wrong
        for of_stage, centroids in zip(chosen, self.stages, strict=True):
            k = len(centroids)
            wrong = of_stage[coded & ((of_stage < 0) | (of_stage >= k))]
            if wrong.size:
                raise InputError(
                    f"the codes hold {wrong[0]} where numbers below {k}, or"
                    f" {self.facts['no_code']} for none, are expected: give them as encode made"
                    " them"
                )
            of_stage[~coded] = k
        return chosen

    def _block(self, rebuilt: np.ndarray, cover: np.ndarray, chosen: np.ndarray) -> RebuiltBlock:
        own = chosen[0]
        kept = own != len(self.centroids)
        patches = np.empty((0, self.centroids[0].size), np.float32)  # nobody has them any more
        return RebuiltBlock(rebuilt, kept, patches, own[kept].astype(np.int64), cover)


def _placed(
    means: list[OverlapMean], chosen: np.ndarray, size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """As `OverlapMean.place`, of all stages: the mean of sums is the sum of means."""
    rebuilt, cover = means[0].place(chosen[0], size)
    for mean, of_stage in zip(means[1:], chosen[1:], strict=True):
        rebuilt += mean.place(of_stage, size)[0]
    return rebuilt, cover
