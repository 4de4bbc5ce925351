"""`report.html`: one file without any outside asset, readable without JavaScript, filterable with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.eval.failures import failure
from tiararodney.sekft.eval.report import FEW, LABELS, MEANINGS, count_text, faults, interval_text, p_text, share_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode, Generation

# C0 controls other than tab and newline, and DEL, shown as the symbols that Unicode has for them; the controls that
# turn the direction of writing, which could make a transcript read otherwise than it is, as their code points.
_BIDI = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_VISIBLE = (
    {c: chr(0x2400 + c) for c in range(32) if c not in (9, 10)} | {127: "\u2421"} | {c: f"<U+{c:04X}>" for c in _BIDI}
)
_CUT = {"length": "cut at the token limit", "context": "the prompt no longer fits the model"}


def page(report: Mapping[str, Any], episodes: Sequence[Episode], bundles: Mapping[str, Any] | None = None) -> str:
    """Return the whole page.

    Args:
        report: what `report.build_report` made.
        episodes: every episode of the run; those of one scenario and repeat are shown side by side.
        bundles: JSON of the scenarios by id, shown beside their sessions.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(__package__ or "", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=False
    )
    models = report["models"]
    archetypes = report["scenarios"]["archetypes"]
    record = {k: v for k, v in report.items() if k not in ("models", "paired")}
    sessions = _sessions(episodes, {m["name"]: i for i, m in enumerate(models)}, bundles or {})
    return environment.get_template("report.html.jinja").render(
        title="sekft-eval: " + " against ".join(m["name"] for m in models),
        lead=_lead(report),
        chips=_chips(report),
        notes=_notes(report),
        models=models,
        labels=LABELS,
        meanings=MEANINGS,
        more=_more(models),
        paired=report["paired"],
        baselines=[
            {"name": b["name"]} | {k: count_text(b["rates"][k]) for k in ("operate", "verified", "success")}
            for b in report["baselines"]
        ],
        failures=list(dict.fromkeys(kind for m in models for kind in m["failures"])),
        archetypes=sorted({e.archetype for e in episodes}),
        many=[a for a, n in archetypes.items() if n >= FEW],
        few=[a for a, n in archetypes.items() if n < FEW],
        few_below=FEW,
        results=sorted({side["result"] for s in sessions for side in s["sides"]}),
        sessions=sessions,
        record=json.dumps(record, indent=2, ensure_ascii=False),
        footer=_footer(report),
        interval=interval_text,
        p_text=p_text,
    )


def _lead(report: Mapping[str, Any]) -> str:
    n = report["scenarios"]["n"]
    return (
        f"{n} scenario{'s' * (n != 1)}, each a fresh world without any scaffold: the model sees a terminal, finds the "
        "directives, does the work and ends the session. A checker judges the world's final state."
    )


def _chips(report: Mapping[str, Any]) -> dict[str, Any]:
    config = report["config"]
    greedy = not config["temperature"]
    facts = {
        "runtime": report["runtime"],
        "scenarios": report["scenarios"]["n"],
        "decoding": "greedy" if greedy else f"temperature {config['temperature']:g}, seed {config['seed']}",
        "turns": config["max_turns"] or "by scenario",
        "tokens per reply": f"at most {config['max_new_tokens']}",
    }
    if not config["endpoint"]:
        facts["base"] = "NF4" if config["load_4bit"] else (report.get("precision") or {}).get("dtype", "not quantised")
    return facts | {"finished": _time(report["finished"])}


def _time(iso: str) -> str:
    return iso[:16].replace("T", " ") + " UTC" if iso else "–"


def _notes(report: Mapping[str, Any]) -> list[str]:
    notes = list(report.get("notes", ()))
    for m in report["models"]:
        if m["contract"] not in ("match", "none"):
            notes.append(f"Render contract of {m['name']} ignored on request: {m['contract']}")
        if m["infrastructure_errors"]:
            notes.append(f"{m['name']}: {faults(m['infrastructure_errors'])}, counted in no rate.")
    return notes


def _more(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows below the rates: partial credit, pass@k where scenarios were repeated, lengths."""
    rows = []
    if any(m["checks_passed"] is not None for m in models):
        rows.append(_row("checks passed", [m["checks_passed"] for m in models], "mean share of a verdict's checks"))
    longest = max((m["pass_at"] for m in models), key=len)
    if len(longest) > 1:
        rows += [_row(f"pass@{k}", [m["pass_at"].get(k) for m in models], f"one of {k} succeeds") for k in longest]
        rows += [_row(f"pass^{k}", [m["pass_all"].get(k) for m in models], f"all of {k} succeed") for k in longest]
    rows.append(_row("commands", [m["commands"] for m in models], "mean per session", "%.1f"))
    if any(m["tokens"] for m in models):
        rows.append(_row("tokens", [m["tokens"] for m in models], "generated, mean per session", "%.0f"))
    if any(m["seconds"] for m in models):
        rows.append(_row("seconds", [m["seconds"] for m in models], "mean per session", "%.1f"))
    return rows


def _row(label: str, values: Sequence[float | None], meaning: str, form: str = "") -> dict[str, Any]:
    cells = [share_text(v) if not form or v is None else form % v for v in values]
    return {"label": label, "cells": cells, "meaning": meaning}


# -------------------------------------------------------------------------------------------------------- sessions


def _sessions(
    episodes: Sequence[Episode], index: Mapping[str, int], bundles: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Collect the episodes of each scenario and repeat, models in the report's order."""
    groups: dict[tuple[str, int], list[Episode]] = {}
    for e in episodes:
        groups.setdefault((e.scenario_id, e.sample), []).append(e)
    repeated = any(sample for _, sample in groups)
    out = []
    for (scenario, sample), group in groups.items():
        sides = [_side(e, index[e.model]) for e in sorted(group, key=lambda e: index[e.model])]
        bundle = bundles.get(scenario)
        out.append(
            {
                "title": f"{scenario} #{sample + 1}" if repeated else scenario,
                "archetype": group[0].archetype,
                "terminal": group[0].terminal,
                "results": "|".join(dict.fromkeys(side["result"] for side in sides)),
                "sides": sides,
                "bundle": None if bundle is None else visible(json.dumps(bundle, indent=2, ensure_ascii=False)),
            }
        )
    return out


def _side(e: Episode, index: int) -> dict[str, Any]:
    cause = failure(e)
    facts = {"ended": e.ended or "never", "commands": e.commands}
    if e.prose_turns is None or e.prose_turns:
        facts["prose turns"] = "unknown" if e.prose_turns is None else e.prose_turns
    if e.seconds:
        facts["seconds"] = f"{e.seconds:.1f}"
    if e.checker.strip() and not e.checks:
        facts["checker"] = e.checker.strip()
    if e.infrastructure:
        facts["infrastructure error"] = e.infrastructure
    by_turn = {g.turn: g for g in e.generations}
    return {
        "index": index,
        "model": e.model,
        "tone": "warn" if e.infrastructure else "good" if cause is None else "bad",
        "result": "infrastructure error" if e.infrastructure else "success" if cause is None else str(cause),
        "facts": {k: visible(str(v)) for k, v in facts.items()},
        "checks": [{"name": visible(c.name), "passed": c.passed} for c in e.checks],
        "turns": [_turn(m, by_turn.get(i)) for i, m in enumerate(e.messages)],
    }


def _turn(message: Mapping[str, str], g: Generation | None) -> dict[str, Any]:
    """Return one turn for the transcript: an environment turn ends with the prompt that the command follows."""
    title = ""
    if g is not None and g.prompt_tokens:
        title = f"prompt {g.prompt_tokens} tokens, sha256 {g.prompt_sha256[:16]}…; reply {len(g.reply_ids)} tokens"
    return {
        "role": message["role"],
        "text": visible(message["content"]),
        "title": title,
        "cut": _CUT.get(g.stop if g else "", ""),
    }


def visible(text: str) -> str:
    """Show control characters as symbols and lone surrogates as question marks."""
    return text.translate(_VISIBLE).encode("utf-8", "replace").decode()


def _footer(report: Mapping[str, Any]) -> str:
    return (
        f"sekft {report['versions'].get('tiararodney.sekft', '?')} · report schema {report['schema_version']} · "
        "intervals: Wilson (1927), Newcombe (1998), bootstrap over archetypes; tests: exact McNemar (1947), Holm (1979)"
        " · full records: episodes.jsonl, report.json"
    )
