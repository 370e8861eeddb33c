"""The study's five questions, answered from a run's numbers. Pure functions of plain numbers."""

import math
from dataclasses import dataclass, field

from analysis.html_report import caveats
from analysis.html_report.caveats import SMALL_GAIN
from analysis.html_report.enough import enough
from analysis.html_report.findings import Findings
from analysis.measures.kinds import MEANINGS, RULE, plural
from analysis.measures.mse_curve import decibels_per_bit, gains_per_doubling
from analysis.text import count, listed, number, percent, signed

RARE = 0.01  # kinds below this share are not listed


@dataclass(frozen=True)
class Answer:
    """A question and its answer.

    paragraphs: the first begins with the answer in one sentence.
    caveats: where the evidence is weak, a sentence each; often none.
    """

    question: str
    paragraphs: list[str]
    caveats: list[str] = field(default_factory=list)


def answers(found: Findings) -> list[Answer]:
    """The five answers, in the study's order."""
    return [
        Answer("How does the dictionary change with K?", _change(found), caveats.of_change(found)),
        Answer("How well is a patch rebuilt?", _quality(found), caveats.of_quality(found)),
        Answer(
            "How many centroids cover the patch space?",
            enough(found),
            caveats.of_coverage(found),
        ),
        Answer("What are the centroids?", _nature(found), caveats.of_nature(found)),
        Answer(
            "How is an image made from them?", _composition(found), caveats.of_composition(found)
        ),
    ]


def _change(found: Findings) -> list[str]:
    sizes, last = found.sizes, len(found.sizes) - 1
    if last == 0:
        return [
            f"This run has one dictionary, of K = {count(sizes[0], 'centroid')}, with a mean"
            f" squared error (MSE) of {number(found.mse[0])} {found.pixels.unit}; how it changes"
            " with K takes at least two.",
            _use(found, 0),
        ]
    fall = 1 - found.mse[last] / found.mse[0] if found.mse[0] else 0.0
    first = (
        f"With more centroids the error falls: from K = {sizes[0]:,} to K = {sizes[last]:,} the"
        f" mean squared error (MSE) of the training patches goes from {number(found.mse[0])} to"
        f" {number(found.mse[last])} {found.pixels.unit}, {percent(fall)} less."
        if fall > 0
        else f"More centroids do not lower the error here: the mean squared error (MSE) of the"
        f" training patches is {number(found.mse[0])} {found.pixels.unit} at K = {sizes[0]:,} and"
        f" {number(found.mse[last])} at K = {sizes[last]:,}."
    )
    return [first + _slope(found), _use(found, last)]


def _slope(found: Findings) -> str:
    """What a doubling brings, and what that says about the patches."""
    if found.exponent is None:
        return ""
    doublings = gains_per_doubling(found.sizes, found.mse)
    decibels = decibels_per_bit([math.log2(size) for size in found.sizes], found.mse)
    text = (
        " A doubling of K, which is one bit more to name a centroid, takes away"
        f" {percent(doublings[0])}"
    )
    text += (
        f" of the MSE at the beginning of the range and {percent(doublings[-1])} at its end"
        f" ({number(decibels[0], 3)} and {number(decibels[-1], 3)} dB of signal-to-noise ratio)."
        if len(doublings) > 1
        else f" of the MSE ({number(decibels[0], 3)} dB of signal-to-noise ratio)."
    )
    if len(doublings) > 1 and found.exponent < 0:
        text += (
            " On logarithmic axes a straight line through all points has the slope"
            f" {signed(found.exponent)}. For points spread over a smooth set of D dimensions the"
            " best centroids would have −2/D (Zador 1982), so over this range the patches behave"
            f" as if they had about {number(-2 / found.exponent, 2)} dimensions, not"
            f" {found.dim:,}."
        )
    return text


def _use(found: Findings, place: int) -> str:
    k, live = found.sizes[place], found.live[place]
    if k == 1:
        return "Its one centroid is the mean patch."
    alive = (
        f"All {k:,} centroids are in use, but not alike:"
        if live == k
        else f"Of {k:,} centroids {live:,} are in use, each nearest to at least one patch, but not"
        " alike:"
    )
    text = (
        f"{alive} half of the patches belong to the {found.half[place]:,} most used, and the most"
        f" used one alone has {percent(found.largest_share[place])}. Their use is as varied as that"
        f" of {number(found.perplexity[place], 3)} centroids used evenly (the perplexity)"
    )
    if found.gini is not None:
        text += (
            f"; the Gini coefficient, 0 when all are used alike and near 1 when one has all, is"
            f" {number(found.gini[place], 2)}"
        )
    if found.entropy is not None:
        text += (
            f". With short names for the most used, naming a patch's centroid takes"
            f" {number(found.entropy[place], 3)} bits instead of {number(math.log2(k), 3)}"
        )
    return text + "."


def _quality(found: Findings) -> list[str]:
    place, last = found.place, len(found.sizes) - 1
    where = "" if found.elbow is None else ", the elbow of the curve,"
    first = (
        f"At K = {found.sizes[place]:,}{where} every patch is one of the centroids, so it is"
        f" rebuilt exactly; the mean patch as only centroid would have an MSE of"
        f" {number(found.variance)}."
        if found.mse[place] == 0
        else f"At K = {found.sizes[place]:,}{where} a rebuilt patch is off by"
        f" {number(found.rmse(place), 3)} {found.pixels.level} on the scale"
        f" {found.pixels.range_text} (root mean squared error), and the centroids explain"
        f" {percent(found.explained(place))} of the patches' variance. That is an MSE of"
        f" {number(found.mse[place])} {found.pixels.unit}, or a peak signal-to-noise ratio (PSNR)"
        f" of {number(found.psnr(place), 3)} dB; the mean patch as only centroid would have an MSE"
        f" of {number(found.variance)}."
    )
    second = ""
    if last > 0:
        second = (
            f"From K = {found.sizes[0]:,} to K = {found.sizes[last]:,} the root mean squared error"
            f" goes from {number(found.rmse(0), 3)} to {number(found.rmse(last), 3)}"
            f" {found.pixels.level}, and the variance explained from"
            f" {percent(found.explained(0))} to {percent(found.explained(last))}. "
        )
    if found.heldout is not None:
        excess = caveats.heldout_excess(found)
        second += (
            "On held-out patches, of images that were not learned from, the MSE at"
            f" K = {found.sizes[-1]:,} is {number(found.heldout[-1])}, "
            + (
                f"{percent(abs(excess))} {'above' if excess >= 0 else 'below'} that"
                if math.isfinite(excess)
                else "not 0 as that"
            )
            + " of the training patches"
            + (
                "."
                if excess > SMALL_GAIN
                else ": what was learned holds for patches never seen before."
            )
        )
    return [first, second.strip()] if second else [first]


def _nature(found: Findings) -> list[str]:
    shares, used = found.kinds[-1], found.kinds_by_use[-1]
    first, second = sorted(shares, key=lambda kind: -shares[kind])[:2]
    size = found.sizes[-1]
    rule = f"How they were told apart: {RULE} The limits were chosen by eye."
    if size == 1:
        return [f"The only centroid, the mean patch, is of the kind “{first}”.", rule]
    text = (
        f"Most of the {size:,} centroids are {MEANINGS[first]} ({percent(shares[first])})."
        if shares[first] > 0.5
        else f"The two largest groups of the {size:,} centroids are {MEANINGS[first]}"
        f" ({percent(shares[first])}), and {MEANINGS[second]} ({percent(shares[second])})."
    )
    text += f" All kinds at K = {size:,}: {_listed_kinds(shares)}."
    if len(found.sizes) > 1:
        text += f" At K = {found.sizes[0]:,}: {_listed_kinds(found.kinds[0])}."
    text += f" By the patches nearest to them, at K = {size:,}: {_listed_kinds(used)}."
    return [text, rule]


def _listed_kinds(shares: dict[str, float]) -> str:
    """Kinds from the most to the least frequent, rare ones left out."""
    ranked = sorted(shares, key=lambda kind: -shares[kind])
    named = [f"{plural(kind)} {percent(shares[kind])}" for kind in ranked if shares[kind] >= RARE]
    return listed(named, most=len(ranked))


def _composition(found: Findings) -> list[str]:
    image = found.image
    kept = "all" if image.patches == image.windows else f"{image.patches:,}"
    first = (
        "An image is made by laying the nearest centroids of its overlapping patches over one"
        f" another and taking the mean where they overlap. The {image.split} image"
        f" {image.index:,} has {count(image.windows, 'window')}, {kept} of them with a patch that"
        " is bright enough to be kept. With"
        f" K = {image.k:,} they are replaced by {count(image.distinct, 'different centroid')}, so a"
        f" centroid is used {number(image.patches / max(1, image.distinct), 2)} times on average;"
        f" and a covered pixel is the mean of {number(image.overlap, 3)} patches."
    )
    blank = (
        f", and {number(image.covered_mse)} over the covered ones"
        if image.covered_mse != image.image_mse
        else ""
    )
    second = (
        f"The MSE of the rebuilt image is {number(image.image_mse)} over all pixels{blank}; that of"
        f" its patches, one by one, is {number(image.patch_mse)} {found.pixels.unit}."
    )
    if image.overlap == 1:
        second += " No pixel is covered twice, so each patch stands alone."
    elif image.covered_mse < image.patch_mse:
        second += (
            " Over the covered pixels the MSE is"
            f" {number(image.patch_mse / max(image.covered_mse, 1e-300), 3)} times smaller than"
            " patch by patch: the errors of different patches at one pixel partly cancel."
        )
    return [first, second, *_many_images(found)]


def _many_images(found: Findings) -> list[str]:
    """How well all test images, or many others, are rebuilt, and which classes best and worst."""
    rebuilt = found.rebuilt
    if rebuilt is None:
        return []
    text = (
        f"{count(rebuilt.images, f'{rebuilt.split} image')} together, rebuilt with"
        f" K = {found.sizes[found.place]:,}, have an MSE of {number(rebuilt.mse)}"
        + (f", a PSNR of {number(rebuilt.psnr, 3)} dB." if rebuilt.mse else ".")
    )
    classes = rebuilt.classes
    if classes and len(classes) > 1:
        best, worst = (choose(classes, key=classes.__getitem__) for choose in (min, max))
        text += (
            f" Images of class {best} are rebuilt best (MSE {number(classes[best])}), those of"
            f" class {worst} worst ({number(classes[worst])})."
        )
    return [text]
