"""Parts of large images: squares that are rebuilt one after the other, in plain integers.

A part is rebuilt from all patches that lie on it, in the order in which the whole image would be:
its pixels are the same, bit for bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from storage import PatchSpec


@dataclass(frozen=True)
class Reach:
    """Pixels along one axis, and what is read to rebuild them.

    Attributes:
        start, stop: of the pixels that are rebuilt.
        first, end: of those of the extended image that are read, which all patches on them lie
            within.
        before: pixels that the image is extended by.
        windows: which of the patches of what is read begin in the pixels that are rebuilt; of an
            extended image, have their centres there.
    """

    start: int
    stop: int
    first: int
    end: int
    before: int
    windows: slice

    @classmethod
    def of(cls, start: int, stop: int, length: int, axis: int, spec: PatchSpec) -> "Reach":
        """The reach of the pixels [start, stop) of an axis that at least one patch fits into."""
        patch, before, stride = (spec.rows, spec.cols)[axis], spec.before[axis], spec.stride
        begin, after = start + before, stop + before  # in the extended image
        last = (spec.extended(length, length)[axis] - patch) // stride  # window of the axis
        first = min(max(0, -((patch - 1 - begin) // stride)), begin // stride, last)
        final = min((after - 1) // stride, last)
        own = slice(max(0, -(-start // stride) - first), max(0, -(-stop // stride) - first))
        end = max(after, final * stride + patch)
        return cls(start, stop, first * stride, end, before, own)

    @property
    def pixels(self) -> slice:
        """Those that are rebuilt, of the axis."""
        return slice(self.start, self.stop)

    @property
    def read(self) -> slice:
        """Those that are read, of the extended axis."""
        return slice(self.first, self.end)

    @property
    def own(self) -> slice:
        """Those that are rebuilt, of what is read."""
        skipped = self.first - self.before
        return slice(self.start - skipped, self.stop - skipped)


@dataclass(frozen=True)
class Part:
    """A rectangle of an image: its reach down and across."""

    rows: Reach
    cols: Reach


def parts_of(size: tuple[int, int], spec: PatchSpec, side: int) -> Iterator[Part]:
    """The squares of an image, quarter by quarter: those of any larger square come together.

    Args:
        size: rows and columns of the image, into which a patch fits.
        spec: how patches are cut.
        side: of the squares, a power of two.
    """
    whole = side
    while whole < max(size):
        whole *= 2
    for top, left in _squares(0, 0, whole, side, size):
        down, across = min(top + side, size[0]), min(left + side, size[1])
        yield Part(
            Reach.of(top, down, size[0], 0, spec),
            Reach.of(left, across, size[1], 1, spec),
        )


def _squares(
    top: int, left: int, whole: int, side: int, size: tuple[int, int]
) -> Iterator[tuple[int, int]]:
    """Corners of the squares within a larger one, as far as they lie in the image."""
    if top >= size[0] or left >= size[1]:
        return
    if whole == side:
        yield top, left
        return
    half = whole // 2
    for down in (top, top + half):
        for across in (left, left + half):
            yield from _squares(down, across, half, side, size)


def widest(side: int, size: tuple[int, int], spec: PatchSpec) -> tuple[int, int]:
    """Rows and columns of the extended image that are read for a square of an image, at most."""
    beyond = 2 * (max(spec.rows, spec.cols) - 1) + spec.stride - 1
    rows, cols = spec.extended(*size)
    return min(rows, side + beyond), min(cols, side + beyond)
