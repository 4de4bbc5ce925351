"""The interval plot of a report, as inline SVG."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.eval.rates import RATES
from tiararodney.sekft.eval.report import LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COLOURS = 6
_WIDTH, _LEFT, _RIGHT, _TOP, _LANE, _GAP = 1000, 150, 90, 26, 20, 16


def colour(index: int) -> str:
    """Return the CSS colour of the index-th model."""
    return f"var(--m{index % COLOURS})"


def interval_plot(models: Sequence[Mapping[str, Any]]) -> str:
    """Draw every rate as a group of lanes, one lane a model: a dot at k/n and a bar from low to high."""
    group = len(models) * _LANE + _GAP
    height = _TOP + len(RATES) * group
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height + 24}" role="img" aria-label="rates with 95 % Wilson intervals">']
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = _x(tick)
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{_TOP - 8}" y2="{height}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{height + 16}" text-anchor="middle">{tick:.0%}</text>')
    for row, name in enumerate(RATES):
        top = _TOP + row * group
        middle = top + len(models) * _LANE / 2
        parts.append(f'<text class="name" x="0" y="{middle + 4}">{escape(LABELS[name])}</text>')
        if row:
            parts.append(f'<line class="row" x1="0" x2="{_WIDTH}" y1="{top - _GAP / 2}" y2="{top - _GAP / 2}"/>')
        for lane, model in enumerate(models):
            parts.append(_bar(model["rates"][name], top + lane * _LANE + _LANE / 2, lane, model["name"]))
    return "".join([*parts, "</svg>"])


def _x(value: float) -> float:
    return round(_LEFT + value * (_WIDTH - _LEFT - _RIGHT), 1)


def _bar(rate: Mapping[str, Any], y: float, index: int, name: str) -> str:
    if not rate["n"]:
        return f'<text class="value" x="{_x(1) + 14}" y="{y + 4}">no data</text>'
    low, high, value, ink = _x(rate["low"]), _x(rate["high"]), _x(rate["value"]), colour(index)
    ends = "".join(
        f'<line x1="{x}" x2="{x}" y1="{y - 4}" y2="{y + 4}" stroke="{ink}" stroke-width="1.5"/>' for x in (low, high)
    )
    return (
        f"<g><title>{escape(name)}: {rate['k']}/{rate['n']}, {rate['low']:.3f} to {rate['high']:.3f}</title>"
        f'<line x1="{low}" x2="{high}" y1="{y}" y2="{y}" stroke="{ink}" stroke-width="2.5" stroke-opacity=".55"/>{ends}'
        f'<circle cx="{value}" cy="{y}" r="5.5" fill="{ink}"/>'
        f'<text class="value" x="{_x(1) + 14}" y="{y + 4}">{rate["k"]}/{rate["n"]}</text></g>'
    )
