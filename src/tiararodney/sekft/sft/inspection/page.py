"""`--inspect --html`: the inspection as one page that needs nothing else, for sharing."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from tiararodney.sekft.render.preview import printable
from tiararodney.sekft.sft.inspection.report import differences, figures, sections, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.sft.inspection.report import Shown

_NAMED = 20
_HEIGHT = 100  # of the histogram, in its own units


def inspection_page(report: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    """Return the page's HTML.

    Args:
        report: the JSON values that `inspect.run` prints.
        shown: the sessions to show in full.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Sessions hold control characters, which a browser would act on or drop.
        finalize=lambda value: printable(value) if type(value) is str else value,
    )
    source = files("tiararodney.sekft.sft.inspection").joinpath("page.html").read_text(encoding="utf-8")
    endpoint = report["endpoint"]
    return environment.from_string(source).render(
        report=report,
        shown=shown,
        figures=figures(report),
        bars=_bars(report["length_histogram"]),
        limit=_limit(report["length_histogram"], report["over_max_length"]["max_length"]),
        shares=[_shares(report[name]) for name in ("archetypes", "terminals", "splits")],
        sections=sections(report),
        verdict=verdict(endpoint) if endpoint else "",
        differences=differences(endpoint) if endpoint else [],
        contract=_json(report["contract"]),
        everything=_json(report),
    )


def _bars(bins: Sequence[Mapping[str, int]]) -> list[dict[str, Any]]:
    """Return the histogram's bars, each with its place in percent and its height in units of `_HEIGHT`."""
    top = max((b["examples"] for b in bins), default=1)
    step = 100 / len(bins) if bins else 0
    return [
        {
            "x": round(i * step, 2),
            "width": round(step * 0.9, 2),
            "height": round(b["examples"] / top * _HEIGHT, 1),
            "label": f"{b['from']:,} to {b['to']:,} tokens: {b['examples']:,} examples",
        }
        for i, b in enumerate(bins)
    ]


def _limit(bins: Sequence[Mapping[str, int]], limit: int) -> float | None:
    """Return where `--max-length` lies in the histogram, in percent; None where it lies beside it."""
    low, high = (bins[0]["from"], bins[-1]["to"]) if bins else (0, 0)
    return round((limit - low) / (high - low) * 100, 2) if low < limit < high else None


def _shares(values: Mapping[str, int]) -> dict[str, Any]:
    """Return the largest counts, each with its bar's width in percent, and how many more there are."""
    largest = sorted(values.items(), key=lambda item: -item[1])
    top = largest[0][1] if largest else 1
    rows = [{"name": name, "count": f"{n:,}", "width": round(n / top * 100, 1)} for name, n in largest[:_NAMED]]
    return {"rows": rows, "more": max(0, len(largest) - _NAMED)}


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
