"""How many centroids are enough, in words. Pure functions of plain numbers."""

from analysis.html_report.caveats import SMALL_GAIN
from analysis.html_report.findings import Findings
from analysis.measures.elbow import MIN_POINTS, ElbowInterval
from analysis.measures.mse_curve import gains_per_doubling
from analysis.text import count, number, percent, round_percent, signed

COVERED = 0.9  # share of the patches that a dictionary is to reach


def enough(found: Findings) -> list[str]:
    """The paragraphs of the answer, the first beginning with it."""
    paragraphs = [] if found.within is None else [_reach(found)]
    paragraphs.append(_elbow(found))
    if len(found.sizes) > 1:
        paragraphs.append(_gains(found))
    return paragraphs


def _reach(found: Findings) -> str:
    """How many patches have a centroid nearby."""
    assert found.within is not None
    assert found.epsilon is not None  # which says what within means
    sizes, within = found.sizes, found.within
    asked = "the" if found.within_rows is None else f"{found.within_rows:,}"
    enough = [k for k, share in zip(sizes, within, strict=True) if share >= COVERED]
    near = (
        "if a patch counts as covered when a centroid is near (with a root mean squared error of at"
        f" most {number(found.epsilon * found.pixels.largest, 3)} {found.pixels.level},"
        f" {percent(found.epsilon)} of the largest)"
    )
    text = (
        f"About {enough[0]:,}, {near}: K = {enough[0]:,} is the first of those tried to cover"
        f" {round_percent(COVERED)} of {asked} {found.unseen} patches."
        if enough
        else f"More than were tried, {near}: K = {sizes[-1]:,} covers {percent(within[-1])} of"
        f" {asked} {found.unseen} patches, and {round_percent(COVERED)} are wanted."
    )
    if len(sizes) > 1:
        text += (
            f" The share covered goes from {percent(within[0])} at K = {sizes[0]:,} to"
            f" {percent(within[-1])} at K = {sizes[-1]:,}."
        )
    return text


def _elbow(found: Findings) -> str:
    """Where the curve bends, by two methods, with their intervals."""
    if found.elbow is None:
        return (
            "No elbow can be given: it takes at least three K, and a curve that sags below the"
            " straight line between its ends; this run has"
            f" {count(len(found.sizes), 'dictionary')}."
        )
    text = (
        "By the elbow, where the curve of the training MSE bends most, about"
        f" {found.elbow:,}: at K = {found.elbow:,} the MSE is {number(found.mse[found.place])},"
        " farthest below the straight line between the curve's ends, both axes scaled to 0 … 1"
        " (Kneedle, Satopää et al. 2011)."
    )
    if found.chord_elbow is not None and found.chord_elbow.resamples:
        text += f" {_sureness(found.chord_elbow)}"
    if len(found.sizes) < MIN_POINTS["lines"]:
        return text
    text += " A second method, two straight lines on logarithmic axes (Salvador and Chan 2004),"
    if found.bend is None:
        return f"{text} finds no place where the curve flattens on those axes."
    text += (
        f" has them part at K = {found.bend.k:,}, with the slope {signed(found.bend.before)} before"
        f" and {signed(found.bend.after)} after."
    )
    if found.lines_elbow is not None and found.lines_elbow.resamples:
        text += f" {_sureness(found.lines_elbow)}"
    return text


def _sureness(elbow: ElbowInterval) -> str:
    span = (
        f"at K = {elbow.low:,}"
        if elbow.low == elbow.high
        else f"between K = {elbow.low:,} and K = {elbow.high:,}"
    )
    return (
        f"With some of the K left out, 95 % of {elbow.resamples} trials put it {span}, and"
        f" {percent(elbow.agreement)} of those that keep K = {elbow.estimate:,} choose it again."
    )


def _gains(found: Findings) -> str:
    """Where a doubling of K ceases to pay."""
    curve = found.mse if found.heldout is None else found.heldout
    name = found.unseen
    if min(curve) <= 0:
        return f"The {name} MSE reaches zero: every patch is a centroid."
    gains = gains_per_doubling(found.sizes, curve)
    # From here on all gains are small, not only one of them.
    small = max((place + 1 for place, gain in enumerate(gains) if gain >= SMALL_GAIN), default=0)
    limit = round_percent(SMALL_GAIN)
    if small == len(gains):
        return (
            "But no number that was tried is enough in the sense that more would hardly help. At"
            f" the end of the range a doubling of K still takes away {percent(gains[-1])} of the"
            f" {name} MSE, more than {limit}"
            + (
                "."
                if found.elbow is None
                else ": an elbow marks where returns diminish, not where they end."
            )
        )
    end = (
        "and at the end of the range it adds to it: more centroids do harm there."
        if gains[-1] < 0
        else f"{percent(gains[-1])} at the end of the range: more centroids hardly help there."
    )
    return (
        f"From K = {found.sizes[small]:,} on a doubling of K takes away less than {limit} of the"
        f" {name} MSE, {end}"
    )
