"""Numbers as they stand in a sentence."""

import math
import re
from collections.abc import Sequence

SPLIT_NAMES = {"train": "training", "test": "test"}
# A number and its unit, K and its value, an ellipsis and its ends stay on one line.
_TOGETHER = re.compile(
    r"(?<=\d) (?=%|dB|s\b|min\b|…)|(?<=…) (?=\d)|(?<=K) (?=[=≤])|(?<=[=≤]) (?=\d)"
)


def number(value: float, digits: int = 4) -> str:
    """A number with `digits` significant digits and thousands parted, as in 1,419 or 0.04213."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def compact(value: float, digits: int = 3) -> str:
    """A number that names a curve: as `number`, without zeros at the end of its decimals."""
    text = number(value, digits)
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """A share in per cent: one decimal, two below one per cent, none for 0 and 100."""
    if not math.isfinite(share):
        return "–"
    if share == 1 or abs(share) < 0.00005:  # which may be less than nothing by rounding
        return f"{100 * abs(share):.0f} %"
    return f"{100 * share:.{2 if abs(share) < 0.01 else 1}f} %"


def round_percent(share: float) -> str:
    """A limit in per cent, as it was chosen: 90 %, not 90.0 %."""
    return f"{100 * share:g} %"


def listed(items: Sequence[object], most: int = 8) -> str:
    """Items in a row, as in "100, 200 and 400"; one of more than `most` is cut in the middle."""
    words = [f"{item:,}" if isinstance(item, int) else str(item) for item in items]
    if len(words) > most:
        words = [*words[:3], "…", *words[-2:]]
        return ", ".join(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def count(n: int, noun: str) -> str:
    """A number with its noun, as in 1 image or 1,500 images, 2 patches, 2 dictionaries."""
    if n != 1:
        noun = (
            f"{noun[:-1]}ies"
            if noun.endswith("y")
            else noun + ("es" if noun.endswith("ch") else "s")
        )
    return f"{n:,} {noun}"


def size_range(sizes: Sequence[Sequence[int]]) -> str:
    """Sizes of images, as in 28×28, or 20–64×40–64 where they differ."""
    reach = [sorted({min(lengths), max(lengths)}) for lengths in zip(*sizes, strict=True)]
    return "×".join("–".join(map(str, ends)) for ends in reach)


def signed(value: float) -> str:
    """A number with three decimals and a true minus sign, as in −0.317."""
    return f"{value:.3f}".replace("-", "−")


def unbroken(text: str) -> str:
    """The text with no-break spaces where a line must not end."""
    return _TOGETHER.sub("\u00a0", text)
