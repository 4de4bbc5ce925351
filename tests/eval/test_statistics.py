"""Values against published tables and hand-computed sums."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiararodney.sekft.eval.statistics import (
    clustered_interval,
    detectable_difference,
    difference_test,
    holm,
    newcombe_paired,
    paired,
    pass_at_k,
    wilson,
)


def mcnemar(first: int, second: int) -> float:
    """Return the p-value for so many scenarios in which only the first, and only the second, succeeded."""
    return difference_test([-1.0] * first + [0.0] * 3 + [1.0] * second)


# The first four are method 3 of table I in R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872.
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (0, 16, 0.0000, 0.1936),
        (16, 16, 0.8064, 1.0000),
        (9, 16, 0.3318, 0.7690),
        (5, 16, 0.1416, 0.5560),
    ],
)
def test_wilson_gives_the_published_interval(k: int, n: int, low: float, high: float) -> None:
    rate = wilson(k, n)
    assert (rate.low, rate.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
    assert rate.value == k / n


def test_wilson_ends_are_exact_where_all_or_none_succeeded() -> None:
    assert wilson(0, 16).low == 0.0
    assert wilson(16, 16).high == 1.0


def test_wilson_of_nothing_says_nothing() -> None:
    rate = wilson(0, 0)
    assert (rate.low, rate.high, rate.value) == (0.0, 1.0, None)


@given(st.integers(1, 300), st.data())
def test_wilson_holds_the_proportion_and_mirrors_failures(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    rate, mirror = wilson(k, n), wilson(n - k, n)
    assert 0 <= rate.low <= k / n <= rate.high <= 1
    assert rate.low == pytest.approx(1 - mirror.high, abs=1e-12)


@pytest.mark.parametrize(
    ("first", "second", "p"),
    [
        (0, 0, 1.0),
        (0, 1, 1.0),
        (0, 5, 0.0625),  # 2 / 2^5
        (0, 6, 0.03125),  # 2 / 2^6
        (0, 9, 0.00390625),  # 2 / 2^9: the published 0/16 against 9/16
        (1, 9, 22 / 1024),  # 2 (1 + 10) / 2^10
        (5, 15, 43400 / 1048576),  # 2 (1 + 20 + 190 + 1140 + 4845 + 15504) / 2^20
        (4, 4, 1.0),
        (0, 16, 2 / 65536),
    ],
)
def test_mcnemar_is_twice_the_binomial_tail(first: int, second: int, p: float) -> None:
    assert mcnemar(first, second) == pytest.approx(p, rel=1e-12)
    assert mcnemar(second, first) == mcnemar(first, second)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_sum_over_outcomes_no_likelier_than_the_seen_one(b: int, c: int) -> None:
    """The other definition of a two-sided exact test; both agree where the distribution is symmetric."""
    n = b + c
    weights = [math.comb(n, i) for i in range(n + 1)]
    assert mcnemar(b, c) == pytest.approx(sum(w for w in weights if w <= weights[b]) / 2**n, rel=1e-12)


def test_paired_counts_the_four_cells() -> None:
    pairs = [(True, True)] * 2 + [(True, False)] + [(False, True)] * 9 + [(False, False)] * 4
    result = paired(pairs, ["a"] * 16, [str(i) for i in range(16)])
    assert (result.both, result.only_first, result.only_second, result.neither) == (2, 1, 9, 4)
    assert (result.n, result.p_value, result.difference) == (16, pytest.approx(22 / 1024), 0.5)
    assert result.low < 0.5 < result.high


def test_paired_of_nothing_says_nothing() -> None:
    result = paired([], [], [])
    assert (result.n, result.p_value, result.difference, result.detectable) == (0, 1.0, None, None)
    assert (result.low, result.high) == (-1.0, 1.0)


# Newcombe (1998), table II, method 10: the example of 50 pairs.
def test_newcombe_gives_the_published_interval() -> None:
    low, high = newcombe_paired(36, 2, 12, 0)
    assert (low, high) == (pytest.approx(0.0569, abs=5e-5), pytest.approx(0.3404, abs=5e-5))


@pytest.mark.parametrize("n", [4, 12, 40])
def test_newcombe_of_uncorrelated_pairs_is_that_of_two_samples(n: int) -> None:
    from statsmodels.stats.proportion import confint_proportions_2indep

    expected = confint_proportions_2indep(2 * n, 4 * n, 2 * n, 4 * n, method="newcomb")
    assert newcombe_paired(n, n, n, n) == pytest.approx(expected)


@given(st.integers(1, 25), *[st.integers(0, 25)] * 3)
def test_newcombe_holds_the_difference_and_mirrors_it(a: int, b: int, c: int, d: int) -> None:
    n = a + b + c + d
    low, high = newcombe_paired(a, b, c, d)
    mirrored = newcombe_paired(a, c, b, d)
    assert -1 <= low <= high <= 1
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]))
    assert low - 1e-12 <= (c - b) / n <= high + 1e-12


@given(st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1), min_size=1))
def test_holm_agrees_with_statsmodels(p_values: dict[str, float]) -> None:
    from statsmodels.stats.multitest import multipletests

    expected = multipletests(list(p_values.values()), method="holm")[1]
    assert list(holm(p_values).values()) == pytest.approx(list(expected))


@pytest.mark.parametrize(("n", "k"), [(16, 0), (16, 9), (64, 63), (300, 150)])
def test_wilson_agrees_with_statsmodels(n: int, k: int) -> None:
    from statsmodels.stats.proportion import proportion_confint

    rate = wilson(k, n)
    assert (rate.low, rate.high) == pytest.approx(proportion_confint(k, n, method="wilson"), abs=1e-12)


@given(st.lists(st.sampled_from([-1.0, 1.0]), min_size=2, max_size=10))
def test_flipped_signs_of_single_plays_are_mcnemar(differences: list[float]) -> None:
    """Half differences, as two repeats give them, have every way of flipping signs tried."""
    assert difference_test([d / 2 for d in differences]) == pytest.approx(difference_test(differences))


def test_repeats_of_one_scenario_count_as_one_unit() -> None:
    """Eight repeats of one scenario are no evidence about others, however they end."""
    outcomes = [(False, True)] * 8
    assert paired(outcomes, ["a"] * 8, list("stuvwxyz")).p_value < 0.05
    assert paired(outcomes, ["a"] * 8, ["s"] * 8).p_value == 1.0


def test_clustered_interval_is_wider_where_archetypes_differ() -> None:
    differ = clustered_interval({str(i): [float(i % 2)] * 16 for i in range(6)})
    alike = clustered_interval({str(i): [0.0, 1.0] * 8 for i in range(6)})
    assert differ is not None
    assert differ[0] < wilson(48, 96).low
    assert differ[1] > wilson(48, 96).high
    assert alike == (0.5, 0.5)


def test_clustered_interval_needs_five_clusters() -> None:
    assert clustered_interval({str(i): [0.0, 1.0] for i in range(4)}) is None


def test_clustered_interval_covers_the_true_mean() -> None:
    """About 95 of 100 intervals hold the mean of the process that made the data."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        means = rng.beta(2, 2, size=24)
        interval = clustered_interval({str(i): (rng.random(8) < m).astype(float).tolist() for i, m in enumerate(means)})
        assert interval is not None
        held += interval[0] <= 0.5 <= interval[1]
    assert 86 <= held <= 99


def test_detectable_difference_has_the_power_it_claims() -> None:
    """Simulated: 40 % discordant pairs, the true difference the one that is said to be detectable."""
    n, discordant = 128, 0.4
    delta = detectable_difference(n, discordant)
    assert delta is not None
    rng = np.random.default_rng(2)
    second = rng.multinomial(n, [(discordant + delta) / 2, (discordant - delta) / 2, 1 - discordant], size=400)
    power = np.mean([mcnemar(int(c), int(b)) < 0.05 for b, c, _ in second])
    assert 0.72 <= power <= 0.86  # the exact test is a little conservative


def test_few_pairs_can_show_no_difference() -> None:
    assert detectable_difference(5, 1.0) is None
    assert detectable_difference(6, 0.1) == 1.0


def test_pass_at_k_and_all_of_k_by_hand() -> None:
    never, once, thrice, always = [False] * 4, [True] + [False] * 3, [True] * 3 + [False], [True] * 4
    assert pass_at_k([once, never], 2) == pytest.approx(((1 - 3 / 6) / 2, 0.0))
    assert pass_at_k([thrice, always], 2) == pytest.approx((1.0, (3 / 6 + 1) / 2))
    assert pass_at_k([[True], [True, True]], 2) == (1.0, 1.0)  # a scenario with fewer tries is left out
    assert pass_at_k([[True, False]], 3) is None
