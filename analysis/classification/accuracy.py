"""How certain an accuracy is."""

import math

LEVEL = 1.959963984540054  # of the normal distribution, for 95 %


def wilson_interval(right: int, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share.

    Wilson 1927, Probable inference, the law of succession, and statistical inference.

    Args:
        right: so many.
        n: of so many, at least 1.

    Returns: its ends, within 0 … 1.
    """
    share, square = right / n, LEVEL**2 / n
    middle = (share + square / 2) / (1 + square)
    half = LEVEL / (1 + square) * math.sqrt(share * (1 - share) / n + square / (4 * n))
    return max(0.0, middle - half), min(1.0, middle + half)
