"""The plain numbers of one run that the written answers are made of. No I/O, no figures."""

import math
from dataclasses import dataclass

from analysis.measures.elbow import Bend, ElbowInterval
from analysis.measures.pixel_scale import PixelScale


@dataclass(frozen=True)
class ImageFindings:
    """One image rebuilt with one dictionary.

    split: "training" or "test". index: of the image in its split. k: of the dictionary.
    windows: places at which a patch can be cut. patches: kept ones. distinct: centroids used.
    overlap: mean number of kept patches over a pixel that at least one covers.
    image_mse: over all pixels. covered_mse: over the pixels that a kept patch covers.
    patch_mse: over the kept patches. All three in squared pixel levels.
    """

    split: str
    index: int
    k: int
    windows: int
    patches: int
    distinct: int
    overlap: float
    image_mse: float
    covered_mse: float
    patch_mse: float


@dataclass(frozen=True)
class RebuiltFindings:
    """Many images rebuilt with one dictionary.

    split: "training" or "test". images: how many. mse: over all their pixels, squared pixel levels.
    psnr: of that, dB. classes: class -> MSE over all pixels of its images; None where classes are
    not known.
    """

    split: str
    images: int
    mse: float
    psnr: float
    classes: dict[str, float] | None


@dataclass(frozen=True)
class Findings:
    """Numbers of a run; lists run over K, ascending. What is None is not known, and not told.

    dataset: its name. image_shape: of one image. patch: as in 5×5. dim: pixel values in a patch.
    patches: rows learned from.
    pixels: range and unit. sizes: the K list. mse, heldout (None where nothing was held out):
    squared pixel levels. live, perplexity, half, largest_share: see `Usage`.
    elbow: of the training curve, by the chord.
    exponent: of the power law fitted to the training curve.
    variance: of the patches about their mean, per pixel.
    kinds, kinds_by_use: for the smallest and the largest K the share of each kind of centroid,
    among centroids and among patches.
    image: the rebuilt sample.
    gini, entropy (bits): see `Usage`. converged: whether each fit ended by itself.
    chord_elbow, lines_elbow: the elbow by either method, with its uncertainty. bend: the two lines.
    within: share of the held-out patches (of the training patches where nothing was held out) whose
    root mean squared error is at most `epsilon` of the largest level; within_rows: how many patches
    were asked.
    rebuilt: many images, with the dictionary at `place`.
    """

    dataset: str
    image_shape: tuple[int, ...]
    patch: str
    dim: int
    patches: int
    pixels: PixelScale
    sizes: list[int]
    mse: list[float]
    heldout: list[float] | None
    live: list[int]
    perplexity: list[float]
    half: list[int]
    largest_share: list[float]
    elbow: int | None
    exponent: float | None
    variance: float
    kinds: tuple[dict[str, float], dict[str, float]]
    kinds_by_use: tuple[dict[str, float], dict[str, float]]
    image: ImageFindings
    gini: list[float] | None = None
    entropy: list[float] | None = None
    converged: list[bool] | None = None
    chord_elbow: ElbowInterval | None = None
    lines_elbow: ElbowInterval | None = None
    bend: Bend | None = None
    within: list[float] | None = None
    within_rows: int | None = None
    epsilon: float | None = None
    rebuilt: RebuiltFindings | None = None

    @property
    def place(self) -> int:
        """Place in the lists of the elbow, or of the largest K where there is none."""
        return len(self.sizes) - 1 if self.elbow is None else self.sizes.index(self.elbow)

    @property
    def unseen(self) -> str:
        """Which patches stand for those that were not learned from."""
        return "training" if self.heldout is None else "held-out"

    def rmse(self, place: int) -> float:
        """Root of the MSE of the dictionary at this place of the list, pixel levels."""
        return math.sqrt(self.mse[place])

    def psnr(self, place: int) -> float:
        """Peak signal-to-noise ratio in decibels: 10 · log10(largest² / MSE); inf for MSE 0."""
        if self.mse[place] == 0:
            return math.inf
        return 10 * math.log10(self.pixels.largest**2 / self.mse[place])

    def explained(self, place: int) -> float:
        """Share of the patches' variance that the centroids explain."""
        return 1 - self.mse[place] / self.variance if self.variance else math.nan
