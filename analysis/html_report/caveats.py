"""Where the evidence of each answer is weak. Pure functions of plain numbers, a sentence each."""

import math

from analysis.html_report.findings import Findings
from analysis.measures.elbow import ElbowInterval
from analysis.measures.mse_curve import gains_per_doubling
from analysis.text import count, listed, number, percent

SMALL_GAIN = 0.05  # of the MSE, by a doubling of K
FEW_SIZES = 5  # points through which a line is no evidence of a law
FEW_ROWS = 100  # patches per centroid
WIDE = 2.0  # ends of an interval, one by the other
NAMELESS = 0.2  # share of the kind "other"


def of_change(found: Findings) -> list[str]:
    """Few dictionaries, unfinished fits, centroids that nothing uses."""
    caveats, n = [], len(found.sizes)
    if n == 2 and found.exponent is not None:
        caveats.append(
            "There are only 2 dictionaries, so what a doubling brings is taken from a single step."
        )
    elif 2 < n < FEW_SIZES and found.exponent is not None:
        caveats.append(
            f"There are only {n} dictionaries, so the slope is that of a line through {n} points."
        )
    if found.converged is not None and not all(found.converged):
        open_ended = [k for k, done in zip(found.sizes, found.converged, strict=True) if not done]
        fits = f"{'fit' if len(open_ended) == 1 else 'fits'} of K = {listed(open_ended)}"
        caveats.append(
            f"The {fits} stopped at the limit of passes (max-iter) before the centroids had come to"
            " rest; with more passes the MSE there would be a little lower."
        )
    dead = [k - live for k, live in zip(found.sizes, found.live, strict=True)]
    if any(dead):
        worst = max(range(n), key=lambda place: dead[place] / found.sizes[place])
        caveats.append(
            f"At K = {found.sizes[worst]:,} {count(dead[worst], 'centroid')}"
            f" ({percent(dead[worst] / found.sizes[worst])})"
            f" {'stands' if dead[worst] == 1 else 'stand'} for no patch, so the dictionary is"
            " in truth smaller than its K."
        )
    return caveats


def of_quality(found: Findings) -> list[str]:
    """Nothing held out, learned by heart, few patches for a centroid."""
    caveats = []
    if found.heldout is None:
        caveats.append(
            "Nothing was held out, so these numbers do not say how well patches are rebuilt that"
            " were not learned from."
        )
    elif (excess := heldout_excess(found)) > SMALL_GAIN:
        caveats.append(
            f"At K = {found.sizes[-1]:,} the error on held-out patches is {percent(excess)} larger:"
            " the dictionary has begun to learn its training patches by heart."
            if math.isfinite(excess)
            else f"At K = {found.sizes[-1]:,} held-out patches have an error and training patches"
            " none: the dictionary holds its training patches by heart."
        )
    rows = found.patches / found.sizes[-1]
    if rows < FEW_ROWS:
        caveats.append(
            f"The sample is small: at K = {found.sizes[-1]:,} there are {number(rows, 2)} training"
            " patches for each centroid."
        )
    return caveats


def of_coverage(found: Findings) -> list[str]:
    """What the elbow hangs on, and whether the curve was still falling."""
    caveats = []
    if found.elbow is not None:
        caveats += _of_elbow(found)
    if len(found.sizes) > 1 and min(found.mse) > 0:
        last = gains_per_doubling(found.sizes, found.mse)[-1]
        if last >= SMALL_GAIN:
            caveats.append(
                f"The MSE was still falling at K = {found.sizes[-1]:,}, by {percent(last)} for a"
                " doubling: the end of the range is not the end of the curve."
            )
    return caveats


def _of_elbow(found: Findings) -> list[str]:
    caveats = []
    chord, lines = found.chord_elbow, found.lines_elbow
    earlier = earlier_elbow(found)
    if earlier is not None:
        caveats.append(
            f"The elbow depends on the range of K. Had the run ended at K = {earlier[0]:,}, it"
            f" would stand at K = {earlier[1]:,}."
        )
    if chord is not None and chord.resamples == 0:
        caveats.append(
            f"With {len(found.sizes)} K there is nothing to leave out, so how sure the elbow is"
            " cannot be said."
        )
    elif chord is not None and chord.high >= WIDE * chord.low:
        caveats.append(
            f"The elbow is not sharp: other choices of K put it anywhere from {chord.low:,} to"
            f" {chord.high:,}."
        )
    if chord is not None and lines is not None and not _compatible(chord, lines):
        caveats.append(
            f"The two methods disagree: K = {chord.estimate:,} by the distance from the straight"
            f" line, K = {lines.estimate:,} by two lines."
        )
    return caveats


def _compatible(one: ElbowInterval, other: ElbowInterval) -> bool:
    """Whether each elbow lies in the other's interval."""
    return one.low <= other.estimate <= one.high and other.low <= one.estimate <= other.high


def of_nature(found: Findings) -> list[str]:
    """Centroids without a name, patches too narrow to have an inside."""
    caveats = []
    nameless = found.kinds[-1]["other"]
    if nameless >= NAMELESS:
        caveats.append(f"The rule has no name for {percent(nameless)} of the centroids.")
    rows, cols = (int(length) for length in found.patch.split("×")[:2])
    if min(rows, cols) < 3:
        caveats.append(
            f"A patch of {found.patch} pixels has no inside, so there are no dots, and few line"
            " ends."
        )
    return caveats


def of_composition(found: Findings) -> list[str]:
    """Numbers of a single image, or of one that was learned from."""
    caveats = []
    if found.rebuilt is None:
        caveats.append("These are the numbers of a single image.")
    if found.heldout is None:
        caveats.append("Its patches are among those that the dictionary was learned from.")
    return caveats


def heldout_excess(found: Findings) -> float:
    """How much larger the held-out MSE is than the training MSE at the largest K, as a share.

    inf where only the training patches have no error.
    """
    if found.heldout is None or found.heldout[-1] == found.mse[-1]:
        return 0.0
    if found.mse[-1] == 0:
        return math.inf
    return found.heldout[-1] / found.mse[-1] - 1


def earlier_elbow(found: Findings) -> tuple[int, int] | None:
    """Of the shorter ranges the longest with another elbow: its largest K, and that elbow.

    Of those, one that ends at most half as far is told first: it shows what the range does.
    """
    if found.chord_elbow is None:
        return None
    others = [
        (largest, elbow)
        for largest, elbow in found.chord_elbow.by_largest.items()
        if elbow is not None and elbow != found.elbow
    ]
    shorter = [pair for pair in others if 2 * pair[0] <= found.sizes[-1]]
    return max(shorter or others, default=None)
