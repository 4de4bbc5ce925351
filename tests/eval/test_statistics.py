"""Values against published tables and hand-computed sums."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiararodney.sekft.eval.statistics import Paired, mcnemar_exact, paired, wilson


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


def test_wilson_at_another_confidence_is_the_interval_of_that_z() -> None:
    # At 0/n the interval is [0, z^2 / (n + z^2)]; z = 1.6449 for 90 %.
    assert wilson(0, 10, 0.9).high == pytest.approx(1.6448536**2 / (10 + 1.6448536**2))


@pytest.mark.parametrize(("k", "n", "confidence"), [(-1, 3, 0.95), (4, 3, 0.95), (1, 3, 0.0), (1, 3, 1.0)])
def test_wilson_refuses_what_is_no_proportion(k: int, n: int, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"is no proportion|is not in"):
        wilson(k, n, confidence)


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
    assert mcnemar_exact(first, second) == pytest.approx(p, rel=1e-12)
    assert mcnemar_exact(second, first) == mcnemar_exact(first, second)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_sum_over_outcomes_no_likelier_than_the_seen_one(b: int, c: int) -> None:
    """The other definition of a two-sided exact test; both agree where the distribution is symmetric."""
    n = b + c
    weights = [math.comb(n, i) for i in range(n + 1)]
    assert mcnemar_exact(b, c) == pytest.approx(sum(w for w in weights if w <= weights[b]) / 2**n, rel=1e-12)


def test_paired_counts_the_four_cells() -> None:
    pairs = [(True, True)] * 2 + [(True, False)] + [(False, True)] * 9 + [(False, False)] * 4
    assert paired(pairs) == Paired(both=2, only_first=1, only_second=9, neither=4, p_value=22 / 1024)
    assert paired(pairs).n == 16
