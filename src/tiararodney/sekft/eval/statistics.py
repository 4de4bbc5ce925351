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
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MIN_CLUSTERS = 5
"""Fewer clusters than these say nothing about the spread between clusters: there is no clustered interval then."""
K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True)
class Rate:
    """A proportion with its intervals."""

    k: int  # successes
    n: int  # trials; 0 means that nothing was counted
    value: float | None  # the proportion, None where nothing was counted
    low: float  # of the 95 % Wilson interval; it is all of [0, 1] where nothing was counted
    high: float
    # Of a bootstrap over archetypes, None where there are fewer than `MIN_CLUSTERS`: sessions of one archetype resemble
    # each other, so this is the 95 % interval that tells how the rate would vary over other archetypes.
    clustered: tuple[float, float] | None = None


@dataclass(frozen=True)
class Paired:
    """Two contestants in the same worlds, one rate."""

    n: int = 0  # pairs
    both: int = 0  # worlds in which both succeeded
    only_first: int = 0
    only_second: int = 0
    neither: int = 0
    p_value: float = 1.0  # of no difference, see `difference_test`
    difference: float | None = None  # rate of the second less rate of the first; None without pairs
    low: float = -1.0  # of the difference's 95 % interval, see `newcombe_paired`
    high: float = 1.0
    clustered: tuple[float, float] | None = None  # its 95 % interval from a bootstrap over archetypes, as in `Rate`
    detectable: float | None = None  # see `detectable_difference`
    p_holm: float = 1.0  # the p-value with Holm's correction over the rates


def wilson(k: int, n: int) -> Rate:
    """Return the proportion of k successes in n trials with its 95 % Wilson score interval."""
    from scipy.stats import binomtest

    if n == 0:
        return Rate(0, 0, None, 0.0, 1.0)
    interval = binomtest(k, n).proportion_ci(method="wilson")
    # At k = 0 and k = n one end is exactly 0 or 1; floating point misses it by an ulp.
    return Rate(k, n, k / n, 0.0 if k == 0 else float(interval.low), 1.0 if k == n else float(interval.high))


def clustered_interval(clusters: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % percentile bootstrap interval of a mean, drawing whole clusters of values (at least one in each).

    The same values give the same interval; fewer than `MIN_CLUSTERS` clusters give None.
    """
    from scipy.stats import bootstrap

    rows = [values for _, values in sorted(clusters.items())]
    if len(rows) < MIN_CLUSTERS:
        return None
    sums, sizes = np.array([sum(r) for r in rows], float), np.array([len(r) for r in rows], float)
    found = bootstrap(
        (sums, sizes),
        lambda s, n, axis: s.sum(axis) / n.sum(axis),
        paired=True,
        n_resamples=4000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def difference_test(differences: Sequence[float]) -> float:
    """Return the two-sided exact p-value of "no difference", each scenario's (mean) difference being as likely negated.

    Where each is -1, 0 or 1 this is McNemar's test; else signs are flipped, in every way or in 9,999 random ones.
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
    (1987) 207-211, solved for the difference; `discordant` is the share of pairs in which one alone succeeded. None
    where even a difference of 1 could not be shown.
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

    Home-made: scipy corrects for the false discovery rate only, statsmodels would bring pandas along.
    """
    adjusted, worst = dict(p_values), 0.0
    for rank, name in enumerate(sorted(p_values, key=p_values.__getitem__)):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = worst
    return adjusted


def pass_at_k(tries: Iterable[Sequence[bool]], k: int) -> tuple[float, float] | None:
    """Return the mean probabilities that one of k draws from a scenario's tries succeeded, and that all did.

    The unbiased estimators 1 - C(n - c, k) / C(n, k) of M. Chen et al., arXiv 2107.03374 (pass@k), and
    C(c, k) / C(n, k) of S. Yao et al., arXiv 2406.12045 (pass^k), averaged over the scenarios that have k tries.

    Args:
        tries: for each scenario, whether each of its n tries is one of the c that succeeded.
        k: draws, at least 1.

    Returns:
        pass@k and pass^k; None where no scenario has k tries.
    """
    enough = [(sum(tried), len(tried), comb(len(tried), k)) for tried in tries if len(tried) >= k]
    if not enough:
        return None
    some = fmean(1 - comb(n - c, k) / draws for c, n, draws in enough)
    return some, fmean(comb(c, k) / draws for c, _, draws in enough)


def paired(outcomes: Sequence[tuple[bool, bool]], archetypes: Sequence[str], scenarios: Sequence[str]) -> Paired:
    """Count the four cells of (first, second) pairs; test the difference over their archetypes and scenarios."""
    n = len(outcomes)
    if n == 0:
        return Paired()
    both, first, second, neither = (outcomes.count(pair) for pair in itertools.product((True, False), repeat=2))
    differences = [float(b) - float(a) for a, b in outcomes]
    by_scenario = [fmean(own) for own in group(scenarios, differences).values()]
    return Paired(
        n,
        both,
        first,
        second,
        neither,
        difference_test(by_scenario),
        (second - first) / n,
        *newcombe_paired(both, first, second, neither),
        clustered_interval(group(archetypes, differences)),
        detectable_difference(n, (first + second) / n),
    )


def group(keys: Sequence[K], values: Sequence[T]) -> dict[K, list[T]]:
    """Collect values by key, keys and values in step."""
    out: dict[K, list[T]] = {}
    for key, value in zip(keys, values, strict=True):
        out.setdefault(key, []).append(value)
    return out
