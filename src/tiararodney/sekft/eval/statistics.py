"""Intervals and tests for small counts. Distributions and resampling are scipy's; what it lacks names its source.

The interval of a rate is Wilson's (Journal of the American Statistical Association 22 (1927) 209-212), which Brown, Cai
and DasGupta recommend for small n (Statistical Science 16 (2001) 101-133). The test of a pair is McNemar's
(Psychometrika 12 (1947) 153-157) with the binomial distribution, since the chi-square approximation does not hold for
a handful of discordant pairs.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import comb, sqrt
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIN_CLUSTERS = 5
"""Fewer clusters than these say nothing about the spread between clusters: there is no clustered interval then."""

_RESAMPLES = 4000
T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """A proportion with its interval.

    Args:
        k: successes.
        n: trials; 0 means that nothing was counted, then the interval is all of [0, 1].
        low: lower end of the 95 % Wilson interval, in [0, 1].
        high: upper end of it.
        clustered: 95 % interval from a bootstrap over clusters (archetypes), None where there are fewer than
            `MIN_CLUSTERS`. Sessions of one archetype resemble each other, so this is the one that tells how the rate
            would vary over other archetypes.
    """

    k: int
    n: int
    low: float
    high: float
    clustered: tuple[float, float] | None = None

    @property
    def value(self) -> float | None:
        """The proportion, None where nothing was counted."""
        return self.k / self.n if self.n else None


@dataclass(frozen=True)
class Paired:
    """Two contestants in the same worlds, one rate.

    Args:
        both: worlds in which both succeeded.
        only_first: worlds in which only the first did.
        only_second: worlds in which only the second did.
        neither: worlds in which neither did.
        p_value: two-sided exact test of "no difference": McNemar's where each scenario was played once, else the
            sign-flip test over the scenarios' mean differences, which is the same test for one play.
        difference: rate of the second less rate of the first; None without pairs.
        low: lower end of the difference's 95 % interval (Newcombe's method 10 for paired proportions).
        high: upper end of it.
        clustered: the difference's 95 % interval from a bootstrap over archetypes, as in `Rate`.
        detectable: smallest true difference that this many pairs show with 80 % power at p < 0.05.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float
    difference: float | None = None
    low: float = -1.0
    high: float = 1.0
    clustered: tuple[float, float] | None = None
    detectable: float | None = None

    @property
    def n(self) -> int:
        """Number of pairs."""
        return self.both + self.only_first + self.only_second + self.neither


def wilson(k: int, n: int) -> Rate:
    """Return the proportion k/n with its 95 % Wilson score interval.

    Args:
        k: successes, 0 <= k <= n.
        n: trials.
    """
    from scipy.stats import binomtest

    if n == 0:
        return Rate(0, 0, 0.0, 1.0)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    # At k = 0 and k = n one end is exactly 0 or 1; floating point misses it by an ulp.
    return Rate(k, n, 0.0 if k == 0 else float(interval.low), 1.0 if k == n else float(interval.high))


def clustered_interval(clusters: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of a mean, drawing whole clusters.

    Args:
        clusters: values by cluster (outcomes as 0 and 1, or paired differences).

    Returns:
        The interval, or None where fewer than `MIN_CLUSTERS` clusters hold a value. The draws are seeded, so the same
        values give the same interval.
    """
    from scipy.stats import bootstrap

    rows = [values for _, values in sorted(clusters.items()) if values]
    if len(rows) < MIN_CLUSTERS:
        return None
    sums, sizes = np.array([sum(r) for r in rows], float), np.array([len(r) for r in rows], float)
    result = bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def difference_test(differences: Sequence[float]) -> float:
    """Return the two-sided exact p-value of "no difference", each scenario's difference being as likely negated.

    Args:
        differences: second less first, one (mean) difference for each scenario. Where each is -1, 0 or 1 this is
            McNemar's test; else signs are flipped, in every way or in 9,999 random ones.
    """
    from scipy.stats import binomtest, permutation_test

    values = np.array([d for d in differences if d], float)
    if len(values) < 2:  # noqa: PLR2004 - one discordant scenario can be flipped in two ways, both as extreme
        return 1.0
    if set(values.tolist()) <= {-1.0, 1.0}:
        return float(binomtest(int((values > 0).sum()), len(values)).pvalue)
    rng = np.random.default_rng(0)
    return float(permutation_test((values,), np.mean, permutation_type="samples", n_resamples=9999, rng=rng).pvalue)


def newcombe_paired(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """Return the 95 % interval of second rate less first rate for paired outcomes.

    Method 10 of R. G. Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", Statistics in Medicine 17 (1998) 2635-2650: Wilson intervals of both rates, combined with the
    correlation of the outcomes, continuity-corrected.
    """
    n = both + only_first + only_second + neither
    first, second = wilson(both + only_first, n), wilson(both + only_second, n)
    p1, p2 = (both + only_first) / n, (both + only_second) / n
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    cross = float(both * neither - only_first * only_second)
    if cross > 0:
        cross = max(cross - n / 2, 0.0)
    phi = cross / sqrt(margins) if margins else 0.0
    below2, above2, below1, above1 = p2 - second.low, second.high - p2, p1 - first.low, first.high - p1
    low = sqrt(max(0.0, below2**2 - 2 * phi * below2 * above1 + above1**2))
    high = sqrt(max(0.0, above2**2 - 2 * phi * above2 * below1 + below1**2))
    return max(-1.0, p2 - p1 - low), min(1.0, p2 - p1 + high)


def detectable_difference(n: int, discordant: float) -> float | None:
    """Return the smallest true difference that McNemar's test on n pairs shows at p < 0.05 with 80 % power.

    R. J. Connor, "Sample size for testing differences in proportions for the paired-sample design", Biometrics 43
    (1987) 207-211, solved for the difference.

    Args:
        n: pairs.
        discordant: share of pairs in which one succeeded and the other did not, in [0, 1].

    Returns:
        The difference, in (0, 1], or None where even a difference of 1 could not be shown.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z_alpha, z_power = float(norm.ppf(0.975)), float(norm.ppf(0.8))

    def excess(delta: float) -> float:
        share = max(discordant, delta)
        return delta * sqrt(n) - z_alpha * sqrt(share) - z_power * sqrt(max(0.0, share - delta * delta))

    # Six discordant pairs, all one way, are the fewest that the exact test calls significant.
    if n < 6 or excess(1.0) < 0:  # noqa: PLR2004 - 2 / 2**6 < 0.05 < 2 / 2**5
        return None
    return max(float(brentq(excess, 1e-9, 1.0)), 6 / n)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return Holm's adjusted p-values (S. Holm, Scandinavian Journal of Statistics 6 (1979) 65-70), keys as given.

    Home-made, four lines: scipy corrects for the false discovery rate only, statsmodels would bring pandas along.
    """
    adjusted, worst = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}


def pass_at_k(successes: Sequence[int], tries: Sequence[int], k: int) -> tuple[float, float] | None:
    """Return the mean probabilities that one of k draws from a scenario's tries succeeded, and that all did.

    The unbiased estimators 1 - C(n - c, k) / C(n, k) of M. Chen et al., arXiv 2107.03374 (pass@k), and
    C(c, k) / C(n, k) of S. Yao et al., arXiv 2406.12045 (pass^k), averaged over the scenarios that have k tries.

    Args:
        successes: c for each scenario.
        tries: n for each scenario.
        k: draws, at least 1.

    Returns:
        pass@k and pass^k; None where no scenario has k tries.
    """
    enough = [(c, n, comb(n, k)) for c, n in zip(successes, tries, strict=True) if n >= k]
    if not enough:
        return None
    some = sum(1 - comb(n - c, k) / draws for c, n, draws in enough)
    return some / len(enough), sum(comb(c, k) / draws for c, _, draws in enough) / len(enough)


def paired(outcomes: Sequence[tuple[bool, bool]], clusters: Sequence[str], units: Sequence[str]) -> Paired:
    """Count the four cells over (first, second) pairs and test the difference.

    Args:
        outcomes: one (first, second) for each pair.
        clusters: archetype of each pair.
        units: scenario of each pair.
    """
    n = len(outcomes)
    if n == 0:
        return Paired(0, 0, 0, 0, 1.0)
    both, first, second, neither = (outcomes.count(pair) for pair in itertools.product((True, False), repeat=2))
    differences = [float(b) - float(a) for a, b in outcomes]
    by_scenario = [sum(v) / len(v) for v in group(units, differences).values()]
    return Paired(
        both,
        first,
        second,
        neither,
        difference_test(by_scenario),
        (second - first) / n,
        *newcombe_paired(both, first, second, neither),
        clustered_interval(group(clusters, differences)),
        detectable_difference(n, (first + second) / n),
    )


def group(keys: Sequence[str], values: Sequence[T]) -> dict[str, list[T]]:
    """Collect values by key, keys and values in step."""
    out: dict[str, list[T]] = {}
    for key, value in zip(keys, values, strict=True):
        out.setdefault(key, []).append(value)
    return out
