"""`--inspect --html`: the inspection as one page that needs nothing else, for sharing."""

from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.render.preview import Run, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tiararodney.sekft.sft.inspect import Shown

_STYLE = """
:root { color-scheme: light dark; --trained: #0a6b2d; --ground: #d7f5df; --quiet: #667; }
@media (prefers-color-scheme: dark) { :root { --trained: #9df0b4; --ground: #143d22; --quiet: #99a; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem 1rem .15rem 0; vertical-align: top; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; padding: 1rem; }
pre { border: 1px solid var(--quiet); border-radius: .4rem; }
pre, code { font: 14px/1.45 ui-monospace, monospace; } pre { color: var(--quiet); }
mark { color: var(--trained); background: var(--ground); font-weight: 600; }
summary { cursor: pointer; }
"""


def inspection_page(report: dict[str, Any], shown: Sequence[Shown]) -> str:
    """Return the page's HTML.

    Args:
        report: what `inspect.run` found.
        shown: the sessions to show in full.
    """
    facts = {
        "sessions": f"{report['rendered']} rendered of {report['sessions']} kept of {report['read']} read",
        "examples": f"{report['examples']}, {report['split_sessions']['count']} sessions split",
        "tokens": f"{report['tokens']}, {report['trained_tokens']} trained ({report['trained_share']:.1%})",
        "tokens per example": _pairs(report["example_length"]),
        "commands": f"{report['commands']}, endings {_pairs(report['terminals'])}",
        "over --max-length": f"{report['over_max_length']['count']} over {report['over_max_length']['max_length']}",
        "archetypes": _pairs(report["archetypes"]),
    }
    return (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>sekft-train --inspect</title><style>{_STYLE}</style></head><body>"
        f"<h1>What is trained</h1><p>{_text(', '.join(report['data']))}, rendered for {_text(report['base'])}</p>"
        f"{_table(facts.items())}{_findings(report)}<h2>Sessions</h2>"
        "<p><mark>trained</mark>, everything else is context</p>"
        + "".join(_session(item) for item in shown)
        + "<details><summary>All figures as JSON</summary>"
        f"<pre>{_text(json.dumps(report, indent=2, ensure_ascii=False))}</pre></details></body></html>\n"
    )


def _findings(report: dict[str, Any]) -> str:
    rows: list[tuple[str, int, list[str]]] = [
        *((f"dropped: {k}", v["count"], v["places"]) for k, v in report["dropped"].items()),
        *((f"refused: {k}", v["count"], v["places"]) for k, v in report["refusals"].items()),
        *(
            (f"control token {c['token']} in {c['where']}", c["count"], c["places"])
            for c in report["control_token_text"]
        ),
        *((f"token across the border: {m['token']!r}", m["count"], m["places"]) for m in report["border_merges"]),
        *(
            (name, report[key]["count"], report[key]["places"])
            for name, key in (
                ("split", "split_sessions"),
                ("too long", "over_max_length"),
                ("duplicates", "duplicates"),
            )
            if report[key]["count"]
        ),
        *((f"in several splits: {k}", len(v), v) for k, v in report["leaks"].items() if v),
    ]
    notes = "".join(f"<li>{_text(f)}</li>" for f in report["findings"])
    body = "".join(
        f"<tr><td>{_text(name)}</td><td>{n}</td><td>{'<br>'.join(_text(p) for p in places)}</td></tr>"
        for name, n, places in rows
    )
    head = "<tr><th>finding</th><th>count</th><th>first places</th></tr>"
    table = f"<table>{head}{body}</table>" if rows else "<p>Nothing dropped, refused or out of the ordinary.</p>"
    return f"<h2>Findings</h2>{table}" + (f"<ul>{notes}</ul>" if notes else "")


def _session(item: Shown) -> str:
    return f"<h3>{_text(item.title)}</h3>" + "".join(f"<pre>{_runs(example)}</pre>" for example in item.examples)


def _runs(example: Iterable[Run]) -> str:
    return "".join(f"<mark>{_text(r.text)}</mark>" if r.trained else _text(r.text) for r in example)


def _table(rows: Iterable[tuple[str, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{_text(k)}</th><td>{_text(v)}</td></tr>" for k, v in rows) + "</table>"


def _pairs(counts: dict[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in counts.items()) or "none"


def _text(text: str) -> str:
    return html.escape(printable(text))
