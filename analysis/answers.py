"""The study's five questions, answered from a run's numbers. Pure functions of plain numbers."""

from dataclasses import dataclass

from analysis.curves import gains_per_doubling
from analysis.findings import Findings
from analysis.kinds import MEANINGS, RULE
from analysis.wording import count, listed, number, percent

SMALL_GAIN = 0.05  # of the held-out MSE, by a doubling of K


@dataclass(frozen=True)
class Answer:
    """A question and its answer, a paragraph each."""

    question: str
    paragraphs: list[str]


def answers(found: Findings) -> list[Answer]:
    """The five answers, in the study's order."""
    return [
        Answer("How does the dictionary change with K?", _change(found)),
        Answer("How well is a patch rebuilt?", _quality(found)),
        Answer("How many centroids cover the patch space?", _coverage(found)),
        Answer("What are the centroids?", _nature(found)),
        Answer("How is an image made from them?", _composition(found)),
    ]


def _change(found: Findings) -> list[str]:
    sizes, last = found.sizes, len(found.sizes) - 1
    if last == 0:
        return [
            f"This run has one dictionary, of K = {sizes[0]:,} centroids, with an MSE of"
            f" {number(found.mse[0])} {found.pixels.unit}. How it changes with K takes at least"
            f" two.",
            _use(found, 0),
        ]
    fall = 1 - found.mse[last] / found.mse[0] if found.mse[0] else 0.0
    first = (
        f"From K = {sizes[0]:,} to K = {sizes[last]:,} the training MSE falls from"
        f" {number(found.mse[0])} to {number(found.mse[last])} {found.pixels.unit},"
        f" by {percent(fall)}."
    )
    if found.exponent is not None:
        first += (
            f" On logarithmic axes the slope of a straight line through the"
            f" {count(last + 1, 'point')} is {_signed(found.exponent)}: a doubling of K takes away"
            f" about {percent(1 - 2**found.exponent)} of the MSE."
        )
    if found.exponent is not None and found.exponent < 0 and last > 1:
        first += (
            " The best quantiser of points spread evenly over a smooth set of D dimensions has the"
            " slope −2/D (Zador 1982), so over this range the patches behave as if they had about"
            f" {number(-2 / found.exponent, 2)} dimensions, of {found.dim:,}."
        )
    return [first, _use(found, last)]


def _use(found: Findings, place: int) -> str:
    k, live = found.sizes[place], found.live[place]
    if k == 1:
        return "Its one centroid is the mean patch."
    alive = (
        f"All {k:,} centroids are live, but not used alike:"
        if live == k
        else f"Of {k:,} centroids {live:,} are live, and {k - live:,} are nearest to no patch."
        " They are not used alike:"
    )
    return (
        f"{alive} the perplexity of their use is {number(found.perplexity[place], 3)},"
        f" {percent(found.perplexity[place] / k)} of K; half of the patches belong to the"
        f" {found.half[place]:,} most used, and the most used one alone has"
        f" {percent(found.largest_share[place])}."
    )


def _quality(found: Findings) -> list[str]:
    place, last = _elbow_place(found), len(found.sizes) - 1
    text = (
        f"At K = {found.sizes[place]:,} the MSE is {number(found.mse[place])} {found.pixels.unit},"
        f" a root mean squared error of {number(found.rmse(place), 3)} {found.pixels.level} on the"
        f" scale {found.pixels.range_text} and a PSNR of {number(found.psnr(place), 3)} dB; the"
        f" centroids explain {percent(found.explained(place))} of the patches' variance."
    )
    if last > 0:
        text += (
            f" From K = {found.sizes[0]:,} to K = {found.sizes[last]:,} the root mean squared error"
            f" falls from {number(found.rmse(0), 3)} to {number(found.rmse(last), 3)}"
            f" {found.pixels.level}, and the variance explained rises from"
            f" {percent(found.explained(0))} to {percent(found.explained(last))}."
        )
    text += (
        " (Explained means relative to the mean patch as only centroid, whose MSE is"
        f" {number(found.variance)}.)"
    )
    paragraphs = [text]
    if found.heldout is None:
        paragraphs.append(
            "Nothing was held out, so these numbers do not say how well unseen patches are rebuilt."
        )
    else:
        excess = found.heldout[-1] / found.mse[-1] - 1 if found.mse[-1] else 0.0
        side = "above" if excess >= 0 else "below"
        paragraphs.append(
            f"On held-out patches the MSE at K = {found.sizes[-1]:,} is"
            f" {number(found.heldout[-1])}, {percent(abs(excess))} {side} the training MSE"
            + (
                ": the largest dictionary has begun to fit its own training patches."
                if excess > SMALL_GAIN
                else ": what was learned holds for unseen patches."
            )
        )
    return paragraphs


def _elbow_place(found: Findings) -> int:
    return len(found.sizes) - 1 if found.elbow is None else found.sizes.index(found.elbow)


def _coverage(found: Findings) -> list[str]:
    sizes = found.sizes
    if found.elbow is None:
        first = (
            "No elbow can be given: it takes at least three K, and a curve that sags below the"
            f" chord between its ends; this run has {count(len(sizes), 'dictionary')}."
        ).replace("dictionarys", "dictionaries")
    else:
        first = (
            f"The elbow of the training curve is at K = {found.elbow:,}, where the MSE is"
            f" {number(found.mse[sizes.index(found.elbow)])}. It is the K at which the curve, with"
            " both axes scaled to 0 … 1, lies farthest below the chord between its first and last"
            " point (Kneedle, Satopää et al. 2011, without smoothing). It depends on the range of K"
            f" and is one of the K that were tried: here from {sizes[0]:,} to {sizes[-1]:,}"
        )
        if found.elbow_without_last is None:
            first += "."
        elif found.elbow_without_last == found.elbow:
            first += f"; without K = {sizes[-1]:,} it would stay where it is."
        else:
            first += f"; without K = {sizes[-1]:,} it would be at K = {found.elbow_without_last:,}."
    return [first, *([_gains(found)] if len(sizes) > 1 else [])]


def _gains(found: Findings) -> str:
    """Where a doubling of K ceases to pay."""
    curve = found.mse if found.heldout is None else found.heldout
    name = "training" if found.heldout is None else "held-out"
    if min(curve) <= 0:
        return f"The {name} MSE reaches zero: every patch is a centroid."
    gains = gains_per_doubling(found.sizes, curve)
    # From here on all gains are small, not only one of them.
    small = max((place + 1 for place, gain in enumerate(gains) if gain >= SMALL_GAIN), default=0)
    start = (
        f"Measured by the {name} MSE, a doubling of K takes away {percent(gains[0])} at the"
        f" beginning of the range and {percent(gains[-1])} at its end."
    )
    if small == len(gains):
        return (
            f"{start} At its end it is not yet below {percent(SMALL_GAIN)}, so within K ≤"
            f" {found.sizes[-1]:,} the patch space is not covered in the sense that more"
            " centroids would hardly help: the elbow marks where the returns diminish, not where"
            " they end."
        )
    return (
        f"{start} From K = {found.sizes[small]:,} on it is below {percent(SMALL_GAIN)}: more"
        " centroids hardly help there."
    )


def _nature(found: Findings) -> list[str]:
    ends = [0] if len(found.sizes) == 1 else [0, 1]
    texts = []
    for end in ends:
        shares, used = found.kinds[end], found.kinds_by_use[end]
        size = found.sizes[-1 if end else 0]
        named = listed([f"{percent(share)} {_plural(kind)}" for kind, share in shares.items()])
        stand = listed([percent(used[kind]) for kind in shares])
        texts.append(f"At K = {size:,}, of the centroids {named}; they stand for {stand}.")
    largest = found.kinds[ends[-1]]
    main = max(largest, key=lambda kind: largest[kind])
    size = found.sizes[-1]
    closing = f"So most centroids at K = {size:,}" if largest[main] > 0.5 else "The largest group"
    return [RULE, " ".join(texts) + f" {closing} are {MEANINGS[main]}."]


def _composition(found: Findings) -> list[str]:
    image = found.image
    kept = "all with" if image.patches == image.windows else f"of which {image.patches:,} hold"
    first = (
        f"The {image.split} image {image.index} has {count(image.windows, 'window')},"
        f" {kept} a patch that is kept. With K = {image.k:,} they are replaced by"
        f" {count(image.distinct, 'different centroid')}, so a centroid is used"
        f" {number(image.patches / max(1, image.distinct), 2)} times on average; and a covered"
        f" pixel is the mean of {number(image.overlap, 3)} overlapping patches."
    )
    blank = (
        f", and {number(image.covered_mse)} over the covered ones"
        if image.covered_mse != image.image_mse
        else ""
    )
    second = (
        f"Its MSE is {number(image.image_mse)} over all pixels{blank}; that of its patches, one by"
        f" one, is {number(image.patch_mse)} {found.pixels.unit}."
    )
    if image.overlap == 1:
        second += " No pixel is covered twice, so each patch stands alone."
    elif image.covered_mse < image.patch_mse:
        second += (
            " Averaging the overlaps divides the error by"
            f" {number(image.patch_mse / max(image.covered_mse, 1e-300), 3)}, because the errors"
            " of different patches at one pixel partly cancel."
        )
    return [first, second]


def _plural(kind: str) -> str:
    return kind if kind in ("flat", "other") else f"{kind}s"


def _signed(value: float) -> str:
    return f"{value:.3f}".replace("-", "−")
