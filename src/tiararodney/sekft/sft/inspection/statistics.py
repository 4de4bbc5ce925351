"""Quantiles and histograms of counted values."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter

_BINS = 24
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0)


def quantiles(values: Counter[int]) -> dict[str, int]:
    """Return the smallest, the largest and quantiles between (the nearest value, no interpolation).

    Args:
        values: how often each value occurs.
    """
    if not values:
        return {}
    ordered = sorted(values)
    upto = list(accumulate(values[v] for v in ordered))
    at = {q: bisect_right(upto, round(q * (upto[-1] - 1))) for q in _QUANTILES}
    return {f"p{round(q * 100)}": ordered[i] for q, i in at.items()}


def histogram(values: Counter[int]) -> list[dict[str, int]]:
    """Return equal ranges of the values, each with its first, its last and how many examples lie there."""
    if not values:
        return []
    low, high = min(values), max(values)
    width = max(1, -(-(high - low + 1) // _BINS))
    bins = [{"from": start, "to": min(start + width - 1, high), "examples": 0} for start in range(low, high + 1, width)]
    for value, n in values.items():
        bins[(value - low) // width]["examples"] += n
    return bins
