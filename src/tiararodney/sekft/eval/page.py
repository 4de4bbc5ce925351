"""`report.html`: one file without any outside asset, readable without JavaScript, filterable with it."""

from __future__ import annotations

import json
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.eval.plot import colour, interval_plot
from tiararodney.sekft.eval.rates import RATES
from tiararodney.sekft.eval.report import LABELS, MEANINGS, faults, p_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode, Generation

# C0 controls other than tab and newline, and DEL, shown as the symbols that Unicode has for them.
_VISIBLE = {c: 0x2400 + c for c in range(32) if c not in (9, 10)} | {127: 0x2421}
_BADGES = {"success": "good", "infrastructure": "warn"}


def page(report: Mapping[str, Any], episodes: Sequence[Episode]) -> str:
    """Return the whole page.

    Args:
        report: what `report.build_report` made.
        episodes: every episode of the run, in the order of the transcripts.
    """
    models = report["models"]
    index = {m["name"]: i for i, m in enumerate(models)}
    template = Template((files(__package__) / "template.html").read_text(encoding="utf-8"))
    names = " against ".join(m["name"] for m in models)
    return template.substitute(
        title=escape(f"sekft-eval: {names}"),
        lead=escape(_lead(report)),
        chips=_chips(report),
        notes=_notes(models),
        plot=_legend(models) + interval_plot(models),
        rates=_rates(models),
        paired=_paired(report["paired"]),
        archetypes=_archetypes(models, report["scenarios"]["archetypes"]),
        models=_options(index),
        kinds=_options(sorted({e.archetype for e in episodes})),
        outcomes=_options(sorted({e.outcome for e in episodes})),
        episodes="".join(_episode(e, index[e.model]) for e in episodes),
        record=escape(
            json.dumps({k: v for k, v in report.items() if k not in ("models", "paired")}, indent=2, ensure_ascii=False)
        ),
        footer=_footer(report),
    )


def _lead(report: Mapping[str, Any]) -> str:
    n = report["scenarios"]["n"]
    return (
        f"{n} scenario{'s' * (n != 1)}, each a fresh world without any scaffold: the model sees a terminal, finds the "
        "directives, does the work and ends the session. Judged by a checker on the world's final state."
    )


def _chips(report: Mapping[str, Any]) -> str:
    config = report["config"]
    facts = {
        "runtime": report["runtime"],
        "scenarios": report["scenarios"]["n"],
        "decoding": "greedy"
        if not config["temperature"]
        else f"temperature {config['temperature']:g}, seed {config['seed']}",
        "turns": f"≤ {config['max_turns']}",
        "tokens a reply": f"≤ {config['max_new_tokens']}",
        "base": "NF4" if config["load_4bit"] else "as stored",
        "finished": _time(report["finished"]),
    }
    if config["endpoint"]:
        del facts["base"]
    return "".join(f'<span class="chip">{escape(k)} <b>{escape(str(v))}</b></span>' for k, v in facts.items())


def _time(iso: str) -> str:
    return iso[:16].replace("T", " ") + " UTC" if iso else "–"


def _notes(models: Sequence[Mapping[str, Any]]) -> str:
    notes = []
    for m in models:
        if m["contract"] not in ("match", "none"):
            notes.append(f"Render contract of {m['name']} ignored at the user's wish: {m['contract']}")
        if m["infrastructure_errors"]:
            notes.append(f"{m['name']}: {faults(m['infrastructure_errors'])}, counted in no rate.")
    return "".join(f'<p class="note">{escape(note)}</p>' for note in notes)


def _dot(i: int) -> str:
    return f'<span class="dot" style="--c:{colour(i)}"></span>'


def _legend(models: Sequence[Mapping[str, Any]]) -> str:
    return (
        '<div class="legend">'
        + "".join(f"<span>{_dot(i)}{escape(m['name'])}</span>" for i, m in enumerate(models))
        + "</div>"
    )


def _cell(rate: Mapping[str, Any] | None, *, short: bool = False) -> str:
    if rate is None or not rate["n"]:
        return '<td class="soft">–</td>'
    value = "" if short else f" {rate['value']:.2f}"
    return (
        f'<td><span class="k">{rate["k"]}/{rate["n"]}</span>{value}'
        f'<span class="ci">[{rate["low"]:.2f}, {rate["high"]:.2f}]</span></td>'
    )


def _heads(models: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"<th>{_dot(i)}{escape(m['name'])}</th>" for i, m in enumerate(models))


def _rates(models: Sequence[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><th>{LABELS[name]}</th>{''.join(_cell(m['rates'][name]) for m in models)}"
        f'<td class="soft small wrap">{MEANINGS[name]}</td></tr>'
        for name in RATES
    )
    return f"<table><thead><tr><th></th>{_heads(models)}<th>means</th></tr></thead><tbody>{rows}</tbody></table>"


def _archetypes(models: Sequence[Mapping[str, Any]], archetypes: Mapping[str, int]) -> str:
    rows = []
    for archetype in archetypes:
        for i, m in enumerate(models):
            cells = "".join(_cell(m["by_archetype"].get(archetype, {}).get(name), short=True) for name in RATES)
            first = f'<th rowspan="{len(models)}">{escape(archetype)}</th>' if i == 0 else ""
            start = ' class="start"' if i == 0 else ""
            rows.append(f"<tr{start}>{first}<td>{_dot(i)}{escape(m['name'])}</td>{cells}</tr>")
    heads = "".join(f"<th>{LABELS[name]}</th>" for name in RATES)
    return f"<table><thead><tr><th></th><th></th>{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _paired(comparisons: Sequence[Mapping[str, Any]]) -> str:
    out = []
    for q in comparisons:
        first, second = escape(q["first"]), escape(q["second"])
        rows = "".join(
            f"<tr><th>{LABELS[name]}</th><td>{p['both']}</td><td>{p['only_first']}</td><td>{p['only_second']}</td>"
            f"<td>{p['neither']}</td><td>{p['n']}</td><td><span class=k>{p_text(p['p_value'])}</span></td></tr>"
            for name, p in q["rates"].items()
        )
        out.append(
            f'<section class="card"><h2>{first} and {second} on the same scenarios</h2>'
            '<p class="soft small">Pairs by who had it; p is the two-sided exact McNemar test.</p>'
            f'<div class="scroll"><table><thead><tr><th></th><th>both</th><th>only {first}</th><th>only {second}</th>'
            f"<th>neither</th><th>pairs</th><th>p</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
        )
    return "".join(out)


def _options(values: Mapping[str, int] | Sequence[str]) -> str:
    return "".join(f'<option value="{escape(v)}">{escape(v)}</option>' for v in values)


# ----------------------------------------------------------------------------------------------------- transcripts


def _episode(e: Episode, index: int) -> str:
    badge = _BADGES.get(e.outcome, "bad")
    marks = "".join(
        f'<span class="badge {"good" if ok else ""}">{"✓" if ok else "✗"} {word}</span>'
        for word, ok in (
            ("ended right", e.ended in ("exit", "panic") and e.ended == e.terminal),
            ("verified", e.verified),
        )
    )
    return (
        f'<details class="episode" data-model="{escape(e.model)}" data-archetype="{escape(e.archetype)}" '
        f'data-outcome="{escape(e.outcome)}"><summary><span class="who">{_dot(index)}{escape(e.model)}</span>'
        f'<span class="what">{escape(e.scenario_id)} <span class="soft small">{escape(e.archetype)}</span></span>'
        f"{marks}"
        f'<span class="badge {badge}">{escape(e.outcome)}</span><span class="n">{e.commands} cmd</span></summary>'
        f'<div class="facts">{_facts(e)}</div><pre class="term">{_transcript(e)}</pre></details>'
    )


def _facts(e: Episode) -> str:
    facts = {
        "expected": e.terminal,
        "ended": e.ended or "never",
        "prose turns": "unknown" if e.prose_turns is None else e.prose_turns,
        "finished": _time(e.finished),
    }
    if e.checker.strip():
        facts["checker"] = e.checker.strip()
    if e.infrastructure:
        facts["infrastructure"] = e.infrastructure
    return "".join(f"<span>{k} <b>{_text(str(v))}</b></span>" for k, v in facts.items())


def _transcript(e: Episode) -> str:
    """Join the turns as a terminal shows them: an environment turn ends with the prompt that the command follows."""
    by_turn = {g.turn: g for g in e.generations}
    parts = []
    for i, message in enumerate(e.messages):
        text = _text(message["content"])
        if message["role"] == "system":
            parts.append(f'<span class="sys">{text}</span>\n\n')
        elif message["role"] == "user":
            parts.append(text)
        else:
            parts.append(_command(text, by_turn.get(i)) + "\n")
    return "".join(parts)


def _command(text: str, g: Generation | None) -> str:
    title = ""
    if g is not None and g.prompt_tokens:
        title = (
            f' title="prompt {g.prompt_tokens} tokens, sha256 {g.prompt_sha256[:16]}…; reply {len(g.reply_ids)} tokens"'
        )
    tail = {"length": "cut at the token limit", "context": "the prompt no longer fits the model"}.get(
        g.stop if g else "", ""
    )
    shown = f'<span class="cmd"{title}>{text}</span>' if text else f'<span class="empty"{title}>(empty reply)</span>'
    return shown + (f' <span class="cut">⟨{tail}⟩</span>' if tail else "")


def _text(text: str) -> str:
    return escape(text.translate(_VISIBLE).encode("utf-8", "replace").decode())


def _footer(report: Mapping[str, Any]) -> str:
    versions = report["versions"]
    return escape(
        f"sekft {versions.get('tiararodney.sekft', '?')} · report schema {report['schema_version']} · "
        "rates: Wilson (1927) score intervals; pairs: McNemar (1947), exact · full records: episodes.jsonl, report.json"
    )
