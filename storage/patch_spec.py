"""Patch geometry and the plan of a store, in plain integers: no I/O, no array library.

A patch is a window of rows × cols pixels (all channels), taken every `stride` pixels, rows first.
Where the border is reflected, the image is first extended by its own mirror image, its edge not
repeated: by size // 2 pixels before and size - 1 - size // 2 after, so that the patch's centre,
pixel size // 2 of it, is every stride-th pixel of the image.
It is kept when the sum of its d = rows · cols · channels pixel values, counted from black, is above
threshold · d · (white − black), see `storage.images.pixel_range`; threshold 0 keeps what is not
blank. Other rules go by its standard deviation or range, or keep all.
"""

import json
import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from storage.errors import InputError, shortened

CHUNK_BYTES = 8 << 20  # upper limit of a decoded chunk; 4 to 32 MB read fastest
BLOSC_BLOCK_BYTES = 16384 * 25  # measured: a block of about 400 KB decodes twice as fast as auto
UNTRIED_BYTES = 100  # a patch up to this size is shuffled: that won on all data that were measured
LARGE_BLOCK_BYTES = 1 << 20  # above it; 2 MiB pack some a fifth smaller, but took 60 MiB of memory
TRIAL_PIECES, TRIAL_BYTES = 8, 2 << 20  # of rows; one chunk alone misled where images differ
_MAX_TYPESIZE = 255  # Blosc takes a larger one for 1, without a word


@dataclass(frozen=True)
class PatchSpec:
    """What is cut from each image.

    Attributes:
        rows: of a patch, pixels.
        cols: of a patch, pixels.
        stride: step between patches in pixels, both ways.
        threshold: share of a white patch's sum that a patch must exceed, in [0, 1).
        seed: of the permutation of the tiles that sets the order of the store's rows.
        keep: rule by which patches are kept: "nonblank" (see threshold); "all"; "std>0.02" and
            "range>0.1", whose standard deviation, or range, is above that share of the way from
            black to white.
        sample: how many of the kept patches are drawn, "1000000" or a share, "5%"; None: all.
        border: "valid": patches lie within the image; "reflect": it is extended by its mirror
            image, so that every pixel is the centre of a patch.

    >>> PatchSpec(5, 5, stride=2).grid(28, 28)
    (12, 12)
    """

    rows: int
    cols: int
    stride: int = 1
    threshold: float = 0.0
    seed: int = 0
    keep: str = "nonblank"
    sample: str | None = None
    border: Literal["valid", "reflect"] = "valid"

    def __post_init__(self) -> None:
        # One value, one name: 0 and 0.0, numpy's integers and Python's are the same spec.
        for name in ("rows", "cols", "stride", "seed"):
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "threshold", float(self.threshold) + 0.0)  # -0.0 is 0.0
        if self.rows < 1 or self.cols < 1:
            raise InputError(f"patch {self.rows}x{self.cols} is empty: use at least 1x1 pixels")
        if self.stride < 1:
            raise InputError(f"stride {self.stride} is too small: use at least 1 pixel")
        if not 0 <= self.threshold < 1:
            raise InputError(f"threshold {self.threshold} is out of range: use 0 <= threshold < 1")
        object.__setattr__(self, "keep", check_rule(self.keep))
        if self.sample is not None:
            object.__setattr__(self, "sample", check_sample(self.sample))
        if self.border not in ("valid", "reflect"):
            raise InputError(f"no border {shortened(self.border)}: use valid or reflect")

    @classmethod
    def from_dict(cls, fields: dict[str, Any] | str) -> "PatchSpec":
        """Inverse of `to_dict`, also of its JSON, which attributes hold.

        Raises: InputError for fields that it has not.
        """
        fields = json.loads(fields) if isinstance(fields, str) else fields
        known = {field.name for field in dataclass_fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise InputError(f"a patch spec has no {unknown[0]!r}: use {', '.join(sorted(known))}")
        return cls(**fields)

    def to_dict(self) -> dict[str, Any]:
        """Plain fields, for JSON; the last three only where they are given, as of old."""
        usual = {"keep": "nonblank", "sample": None, "border": "valid"}
        return {n: value for n, value in asdict(self).items() if usual.get(n, self) != value}

    @property
    def label(self) -> str:
        """Short text for file names and titles, as in 5x5-s1-t0."""
        rule = f"t{self.threshold:g}" if self.keep == "nonblank" else self.keep.replace(">", "")
        drawn = "" if self.sample is None else f"-n{self.sample.replace('%', 'pc')}"
        border = "" if self.border == "valid" else f"-{self.border}"
        return f"{self.rows}x{self.cols}-s{self.stride}-{rule}{drawn}{border}"

    @property
    def rule(self) -> tuple[str, Fraction]:
        """What is measured, and the share of the way from black to white that it exceeds.

        Exact: a share counts as the decimal number that was written.
        """
        measure, _, share = self.keep.partition(">")
        return measure, Fraction(share or str(self.threshold))

    def drawn(self, kept: int) -> int:
        """How many of the kept patches are drawn."""
        if self.sample is None:
            return kept
        if self.sample.endswith("%"):
            return max(1, round(kept * Fraction(self.sample[:-1]) / 100))
        return min(kept, int(self.sample))

    def dim(self, channels: int = 1) -> int:
        """Pixel values in a patch."""
        return self.rows * self.cols * channels

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Number of windows down and across an image of height × width pixels.

        Raises: InputError for images smaller than a patch, which have none.
        """
        if self.rows > height or self.cols > width:
            raise InputError(
                f"patch {self.rows}x{self.cols} is larger than the images ({height}x{width}):"
                f" use at most {height}x{width}"
            )
        height, width = self.extended(height, width)
        return (height - self.rows) // self.stride + 1, (width - self.cols) // self.stride + 1

    @property
    def before(self) -> tuple[int, int]:
        """Pixels that an image is extended by above and at the left."""
        return (0, 0) if self.border == "valid" else (self.rows // 2, self.cols // 2)

    def extended(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of an image of height × width pixels with its border."""
        if self.border == "valid":
            return height, width
        return height + self.rows - 1, width + self.cols - 1

    @property
    def within(self) -> "PatchSpec":
        """How the same patches are cut from images that have been extended."""
        return replace(self, border="valid")


def check_rule(keep: str) -> str:
    """The rule as it is stored; raises InputError for what is none."""
    text = "".join(str(keep).split())
    measure, sign, share = text.partition(">")
    if measure in ("nonblank", "all") and not sign:
        return measure
    try:
        value = float(share)
    except ValueError:
        value = -1.0
    if measure not in ("std", "range") or not 0 <= value < 1:
        raise InputError(
            f"keep {shortened(keep)} is no rule: use nonblank, all, or a share of the way from"
            " black to white as in std>0.02 or range>0.1"
        )
    return f"{measure}>{_short(value)}"


def _short(value: float) -> str:
    """The shortest text of exactly this number."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def check_sample(sample: str | int | float) -> str:
    """The size of a sample as it is stored; raises InputError for what is none."""
    text = "".join(str(sample).split())
    share = text.endswith("%")
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = -1.0
    if share and 0 < value <= 100:
        return f"{_short(value)}%"
    if not share and value >= 1 and value == value // 1 and value < 1 << 62:
        return str(int(value))
    raise InputError(
        f"sample {shortened(str(sample))} is none: use a number of patches as in 1e6, or a share as"
        " in 5%"
    )


@dataclass(frozen=True)
class ChunkPlan:
    """One output chunk: the kept patches of images [first, stop) less `skip` at the head.

    Images are counted in the store's order; `rows` are taken after the skipped ones.
    """

    index: int
    first: int
    stop: int
    skip: int
    rows: int


def plan_chunks(offsets: Sequence[int], chunk_rows: int) -> list[ChunkPlan]:
    """Give each chunk of `chunk_rows` rows the images that fill it.

    offsets: row at which each image's patches start, and the total last, (images + 1) numbers.
    Each chunk is a pure function of its plan, so chunks can be written in any order, by any
    process, again after a crash, without two writers on one chunk.
    """
    starts = range(0, int(offsets[-1]), chunk_rows)
    return [_plan(offsets, index, start, chunk_rows) for index, start in enumerate(starts)]


def _plan(offsets: Sequence[int], index: int, start: int, n_rows: int) -> ChunkPlan:
    """That of the rows from `start` on, as many as there are."""
    stop = min(start + n_rows, int(offsets[-1]))
    first = bisect_right(offsets, start) - 1
    last = bisect_left(offsets, stop)
    return ChunkPlan(index, first, last, start - int(offsets[first]), stop - start)


def chunk_rows(dim: int, itemsize: int) -> int:
    """Rows of a chunk: the largest power of two within CHUNK_BYTES, at least one."""
    return 1 << max(0, int(math.log2(max(1, CHUNK_BYTES // (dim * itemsize)))))


class Codec(NamedTuple):
    """How Blosc lays out the bytes of a chunk before Zstandard packs them.

    shuffled: whether equal places of every `typesize` bytes are put side by side, block by block.
    typesize, blocksize: in bytes.
    """

    shuffled: bool
    typesize: int
    blocksize: int


def codecs(spec: PatchSpec, channels: int, itemsize: int) -> list[Codec]:
    """Those that suit such patches; where there are two, the rows decide (`chosen_codec`).

    Shuffling over a whole patch, or over as much of it as Blosc can, puts equal pixels of all
    patches side by side (25× instead of 6.7× for MNIST 5×5). What large patches share with their
    neighbours Zstandard finds by itself, the more of it the larger the block.
    """
    patch = spec.dim(channels) * itemsize
    if patch <= UNTRIED_BYTES:
        return [Codec(True, patch, _whole(BLOSC_BLOCK_BYTES, patch))]
    typesize = _shuffled_bytes(spec, channels, itemsize)
    return [
        Codec(False, itemsize, _whole(LARGE_BLOCK_BYTES, patch)),
        Codec(True, typesize, _whole(LARGE_BLOCK_BYTES, patch)),
    ]


def _whole(size: int, patch: int) -> int:
    """Bytes of a block of whole patches."""
    return patch * max(1, size // patch)


def _shuffled_bytes(spec: PatchSpec, channels: int, itemsize: int) -> int:
    """The largest part of a patch that Blosc can shuffle over, of whole rows or else pixels."""
    row, pixel = spec.cols * channels * itemsize, channels * itemsize
    for unit, count in ((row, spec.rows), (pixel, spec.cols), (itemsize, channels)):
        fitting = [n for n in range(1, _MAX_TYPESIZE // unit + 1) if count % n == 0]
        if fitting:
            return unit * fitting[-1]
    return itemsize


def chosen_codec(candidates: Sequence[Codec], sizes: Sequence[int]) -> Codec:
    """The one that packs best.

    sizes: bytes that each packs some rows into. Shuffling must save a tenth: of equally many
    bytes, shuffled ones decode up to a third slower.
    """
    cost = [10 * n if codec.shuffled else 9 * n for codec, n in zip(candidates, sizes, strict=True)]
    return candidates[cost.index(min(cost))]


def trial_plans(offsets: Sequence[int], patch: int) -> list[ChunkPlan]:
    """Rows to try codecs on, in pieces spread evenly over the store.

    offsets: as for `plan_chunks`. patch: bytes of one.
    """
    size = max(1, TRIAL_BYTES // patch)
    pieces = -(-int(offsets[-1]) // size)
    n = min(pieces, TRIAL_PIECES)
    return [_plan(offsets, i, i * pieces // n * size, size) for i in range(n)]
