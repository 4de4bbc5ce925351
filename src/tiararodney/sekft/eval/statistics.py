"""Intervals and tests for small counts, from the standard library alone.

`wilson` is the score interval of E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
Journal of the American Statistical Association 22 (1927) 209-212, recommended for small n by L. D. Brown, T. T. Cai and
A. DasGupta, "Interval estimation for a binomial proportion", Statistical Science 16 (2001) 101-133.
`mcnemar_exact` is the test of Q. McNemar, Psychometrika 12 (1947) 153-157, with the binomial distribution in place of
the chi-square approximation, which does not hold for a handful of discordant pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, sqrt
from statistics import NormalDist


@dataclass(frozen=True)
class Rate:
    """A proportion with its interval.

    Args:
        k: how many.
        n: of how many; 0 means that nothing was counted, then the interval is all of [0, 1].
        low: lower end of the interval, in [0, 1].
        high: upper end of the interval, in [0, 1].
    """

    k: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float | None:
        """The proportion, None where nothing was counted."""
        return self.k / self.n if self.n else None


@dataclass(frozen=True)
class Paired:
    """Two contestants on the same scenarios, one rate.

    Args:
        both: scenarios on which both had it.
        only_first: scenarios on which only the first had it.
        only_second: scenarios on which only the second had it.
        neither: scenarios on which neither had it.
        p_value: two-sided exact McNemar test of "one is as good as the other".
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.both + self.only_first + self.only_second + self.neither


def wilson(k: int, n: int, confidence: float = 0.95) -> Rate:
    """Return the proportion k/n with its Wilson score interval.

    Args:
        k: successes, 0 <= k <= n.
        n: trials.
        confidence: two-sided coverage, in (0, 1).

    Raises:
        ValueError: k is not in [0, n], or the confidence is not in (0, 1).
    """
    if not 0 <= k <= n:
        raise ValueError(f"{k} of {n} is no proportion")
    if not 0 < confidence < 1:
        raise ValueError(f"a confidence of {confidence} is not in (0, 1)")
    if n == 0:
        return Rate(0, 0, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    p = k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    # At k = 0 and k = n one end is exactly 0 or 1; floating point would miss it by an ulp.
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Rate(k, n, low, high)


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Return the two-sided exact p-value for discordant pairs.

    Under "no difference" the smaller count is binomial with n = both counts and p = 1/2; the two tails are equal, so
    the p-value is twice the lower one, at most 1.

    Args:
        only_first: pairs where only the first succeeded.
        only_second: pairs where only the second succeeded.
    """
    n = only_first + only_second
    tail = sum(comb(n, i) for i in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**n))


def paired(outcomes: list[tuple[bool, bool]]) -> Paired:
    """Count the four cells over (first, second) pairs and test the difference."""
    both = sum(a and b for a, b in outcomes)
    first = sum(a and not b for a, b in outcomes)
    second = sum(b and not a for a, b in outcomes)
    return Paired(both, first, second, len(outcomes) - both - first - second, mcnemar_exact(first, second))
