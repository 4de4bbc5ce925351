"""`--inspect --html`: the inspection as one page that needs nothing else, for sharing."""

from __future__ import annotations

import html
import json
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render.preview import Run, printable
from tiararodney.sekft.sft.inspection.findings import breaks, findings, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tiararodney.sekft.sft.inspection.inspect import Shown

_OPEN = 3
"""Sessions that are unfolded when the page is opened."""
_SERIOUS = ("refused", "leaks between splits", "left out of training")
_NAMED = 20
_WIDTH, _HEIGHT, _FOOT = 480, 150, 22  # of the histogram, in its own units


def inspection_page(report: Mapping[str, Any], shown: Sequence[Shown]) -> str:
    """Return the page's HTML.

    Args:
        report: what `inspect.run` found.
        shown: the sessions to show in full.
    """
    template = Template(files("tiararodney.sekft.sft.inspection").joinpath("page.html").read_text(encoding="utf-8"))
    contract = report["contract"]
    sections = findings(report)
    rows = "".join(_finding(title, f.name, f.count, f.places) for title, lines in sections for f in lines)
    return template.substitute(
        data=_text(", ".join(report["data"])),
        base=_text(report["base"]),
        figures="".join(f'<div class="figure"><b>{value}</b>{_text(name)}</div>' for name, value in _figures(report)),
        histogram=_histogram(report["length_histogram"], report["over_max_length"]["max_length"]),
        quantiles=_text(", ".join(f"{k} {v:,}" for k, v in report["example_length"].items()) or "no example"),
        shares=_shares(report["archetypes"]) + _shares(report["terminals"]),
        endpoint=_endpoint(report["endpoint"]) if report["endpoint"] else "",
        findings=f"<table>{rows}</table>" if rows else "<p>Nothing refused, dropped or out of the ordinary.</p>",
        notes="".join(f'<p class="note">{_text(note)}</p>' for note in report["findings"]),
        shown=f"{len(shown):,} of {report['rendered']:,} shown, as --show asks for",
        sessions="".join(_session(item, unfolded=n < _OPEN) for n, item in enumerate(shown)),
        contract=_text(f"template {contract['template_sha256'][:12]}, tokenizer {contract['tokenizer_sha256'][:12]}"),
        fingerprint=_json(contract),
        json=_json(report),
    )


def _figures(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"sessions, of {report['sessions']:,} kept and {report['read']:,} read", f"{report['rendered']:,}"),
        (f"examples, {report['split_sessions']['count']:,} sessions split", f"{report['examples']:,}"),
        ("tokens", f"{report['tokens']:,}"),
        (f"of them trained: {report['trained_tokens']:,}", f"{report['trained_share']:.1%}"),
        ("commands and endings", f"{report['commands']:,}"),
        (
            f"over --max-length {report['over_max_length']['max_length']:,}",
            f"{report['over_max_length']['count']:,}",
        ),
    ]


def _histogram(bins: Sequence[Mapping[str, int]], limit: int) -> str:
    if not bins:
        return ""
    low, high, top = bins[0]["from"], bins[-1]["to"], max(b["examples"] for b in bins)
    step = _WIDTH / len(bins)
    bars = []
    for i, b in enumerate(bins):
        tall = b["examples"] / top * (_HEIGHT - 10)
        told = f"{b['from']:,} to {b['to']:,} tokens: {b['examples']:,} examples"
        bars.append(
            f'<rect class="bar" x="{i * step + 1:.1f}" y="{_HEIGHT - tall:.1f}" width="{max(step - 2, 1):.1f}" '
            f'height="{tall:.1f}" rx="2"><title>{told}</title></rect>'
        )
    line = ""
    if low < limit < high:
        x = (limit - low) / (high - low) * _WIDTH
        line = f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"><title>--max-length</title></line>'
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + _FOOT}" role="img" aria-label="how many examples have how many tokens">'
        f'{"".join(bars)}{line}<line class="axis" x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>'
        f'<text x="0" y="{_HEIGHT + 16}">{low:,}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 16}" text-anchor="end">{high:,} tokens</text></svg>'
    )


def _shares(values: Mapping[str, int]) -> str:
    largest = sorted(values.items(), key=lambda item: -item[1])
    top = largest[0][1] if largest else 1
    rows = [
        f'<span>{_text(name)}</span><span class="track"><i style="width:{n / top:.1%}"></i></span><span>{n:,}</span>'
        for name, n in largest[:_NAMED]
    ]
    more = f'<p class="soft small">and {len(largest) - _NAMED} more</p>' if len(largest) > _NAMED else ""
    return f'<div class="shares">{"".join(rows)}</div>{more}<p></p>'


def _endpoint(comparison: Mapping[str, Any]) -> str:
    told = breaks(comparison)
    badge = '<span class="badge bad">breaks</span>' if told else '<span class="badge good">as trained</span>'
    causes = "".join(f'<p class="note">{_text(cause)}</p>' for cause in comparison["causes"])
    rows = "".join(f'<tr><td class="places">{_text(line)}</td></tr>' for line in told)
    who = _text(f"{comparison['url']}, model {comparison['model']}")
    return (
        f'<section class="card"><h2>The endpoint {badge}</h2><p class="soft"><code>{who}</code></p>'
        f"<p>{_text(verdict(comparison))}</p>{causes}{f'<table>{rows}</table>' if rows else ''}</section>"
    )


def _finding(kind: str, name: str, count: int, places: Iterable[str]) -> str:
    badge = "bad" if kind in _SERIOUS else "warn"
    told = "<br>".join(_text(place) for place in places)
    return (
        f'<tr><td><span class="badge {badge}">{_text(kind)}</span></td><td>{_text(name)}</td>'
        f'<td class="n">{count:,}</td><td class="places">{told}</td></tr>'
    )


def _session(item: Shown, *, unfolded: bool) -> str:
    tokens = sum(example[-1].end for example in item.examples)
    trained = sum(run.end - run.start for example in item.examples for run in example if run.trained)
    several = f"{len(item.examples)} examples, " if len(item.examples) > 1 else ""
    name, _, where = item.title.partition("  ")
    return (
        f"<details{' open' if unfolded else ''}><summary><b>{_text(name)}</b>"
        f'<span class="soft small where">{_text(where)}</span>'
        f'<span class="soft small">{several}{tokens:,} tokens, {trained:,} trained</span></summary>'
        + "".join(f"<pre>{_runs(example)}</pre>" for example in item.examples)
        + "</details>"
    )


def _runs(example: Iterable[Run]) -> str:
    return "".join(f"<mark>{_text(r.text)}</mark>" if r.trained else _text(r.text) for r in example)


def _json(value: object) -> str:
    return _text(json.dumps(value, indent=2, ensure_ascii=False))


def _text(text: str) -> str:
    return html.escape(printable(text))
