"""The report of a run: one record (`report.json`) and one aligned table (stdout)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.console import aligned
from tiararodney.sekft.eval.contestants import BASELINES
from tiararodney.sekft.eval.outcomes import LABELS, compare, counted, failure, rates
from tiararodney.sekft.eval.statistics import group, pass_at_k

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tiararodney.sekft.eval.contestants import Contestant
    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.statistics import Paired, Rate

SCHEMA_VERSION = 2
FEW = 5
"""Archetypes with fewer scenarios say little by themselves: they are folded away."""


def build_report(
    contestants: Sequence[Contestant], episodes: Sequence[Episode], run: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the report as JSON values.

    Args:
        contestants: in the order of the report; the first one is what the others are paired with.
        episodes: of all of them, and of the operators that do nothing (`contestants.BASELINES`).
        run: what holds for the whole run (config, versions, seed, runtime, scenarios), taken over as it is.
    """
    played: dict[str, list[Episode]] = {c.name: [] for c in contestants} | group([e.model for e in episodes], episodes)
    first, *others = contestants
    return {
        "schema_version": SCHEMA_VERSION,
        **run,
        "models": [asdict(c) | counts(played[c.name]) for c in contestants],
        "paired": [
            {"first": first.name, "second": other.name, "rates": _json(compare(played[first.name], played[other.name]))}
            for other in others
        ],
        "baselines": [
            {"name": name, "n": len(counted(played[name])), "rates": _json(rates(played[name]))}
            for name in BASELINES
            if name in played
        ],
    }


def counts(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return all that is counted of one contestant's episodes."""
    rows = counted(episodes)
    archetypes = group([e.archetype for e in rows], rows)
    kept = group([e.scenario_id for e in rows], [e.keep for e in rows]).values()
    repeats = max(map(len, kept), default=1)
    ladder = sorted({*(2**i for i in range(repeats.bit_length())), repeats})  # 1, the powers of two, all repeats
    passes = {str(k): pass_at_k(kept, k) or (None, None) for k in ladder}
    return {
        "episodes": len(episodes),
        "n": len(rows),
        "infrastructure_errors": len(episodes) - len(rows),
        "rates": _json(rates(rows, clustered=True)),
        "by_archetype": {name: _json(rates(own)) for name, own in sorted(archetypes.items())},
        "failures": dict(Counter(str(f) for e in rows if (f := failure(e)) is not None).most_common()),
        "checks_passed": _mean([fmean(e.checks.values()) for e in rows if e.checks]),
        "repeats": repeats,
        "pass_at": {k: some for k, (some, _) in passes.items()},
        "pass_all": {k: every for k, (_, every) in passes.items()},
        "commands": _mean([e.commands for e in rows]),
        "tokens": _mean([sum(len(g.reply_ids) for g in e.generations) for e in rows]),
        "seconds": _mean([e.seconds for e in rows]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def _json(found: Mapping[str, Rate | Paired]) -> dict[str, Any]:
    return {name: asdict(one) for name, one in found.items()}


# ---------------------------------------------------------------------------------- what the table and the page show


def facts(report: Mapping[str, Any]) -> dict[str, str]:
    """Return on what and how the models were played."""
    config, scenarios = report["config"], report["scenarios"]
    kinds = len(scenarios["archetypes"])
    decoding = f"temperature {config['temperature']:g}, seed {config['seed']}"
    precision = "NF4" if config["load_4bit"] else (report.get("precision") or {}).get("dtype")
    return {
        "runtime": report["runtime"],
        "scenarios": f"{scenarios['n']} of {kinds} archetype{'s' * (kinds != 1)}",
        "decoding": decoding if config["temperature"] else "greedy",
        "turns": str(config["max_turns"] or "by scenario"),
        "tokens per reply": str(config["max_new_tokens"]),
    } | ({"base": precision} if precision else {})


def notes(report: Mapping[str, Any]) -> list[str]:
    """Return what a reader of the rates has to know."""
    out = list(report.get("notes", ()))
    for m in report["models"]:
        if m["contract"] not in ("match", "none"):
            out.append(f"Render contract of {m['name']} ignored on request: {m['contract']}")
        if n := m["infrastructure_errors"]:
            out.append(f"{m['name']}: {n} infrastructure error{'s' * (n != 1)}, counted in no rate.")
    return out


def more_rows(models: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str], str]]:
    """Return the rows below the rates: label, a cell for each model, meaning; those without a value are left out."""
    rows = [("checks passed", [m["checks_passed"] for m in models], "%.2f", "mean share of a verdict's checks")]
    longest = max((m["pass_at"] for m in models), key=len)
    if len(longest) > 1:
        rows += [(f"pass@{k}", [m["pass_at"].get(k) for m in models], "%.2f", f"one of {k} succeeds") for k in longest]
        rows += [(f"pass^{k}", [m["pass_all"].get(k) for m in models], "%.2f", f"all of {k} succeed") for k in longest]
    for key, form in (("commands", "%.1f"), ("tokens", "%.0f"), ("seconds", "%.1f")):
        rows.append((key, [m[key] or None for m in models], form, "mean per session"))
    shown = [row for row in rows if row[1].count(None) < len(models)]
    return [(label, ["-" if v is None else form % v for v in values], why) for label, values, form, why in shown]


def failure_kinds(models: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the kinds of failures that occurred."""
    return list(dict.fromkeys(kind for m in models for kind in m["failures"]))


def p_text(p: float) -> str:
    """Write a p-value with as many digits as say something."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"  # noqa: PLR2004 - three digits show nothing below it


def interval_text(interval: Sequence[float] | None) -> str:
    """Write a difference's interval as ``[-0.10, +0.35]``, a dash where there is none."""
    return "-" if interval is None else f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def count_text(rate: Mapping[str, Any]) -> str:
    """Write a rate as ``9/16``, a dash where nothing was counted."""
    return f"{rate['k']}/{rate['n']}" if rate["n"] else "-"


def rate_text(rate: Mapping[str, Any]) -> str:
    """Write a rate as ``9/16 0.56 [0.33, 0.77]``, a dash where nothing was counted."""
    return "{k:>2}/{n} {value:.2f} [{low:.2f}, {high:.2f}]".format_map(rate) if rate["n"] else "-"


def power_text(comparison: Mapping[str, Any]) -> str:
    """Say how large a difference in success these pairs could have shown."""
    success = comparison["rates"]["success"]
    if success["detectable"] is None:
        return f"{success['n']} pairs are too few to show any difference"
    return f"these {success['n']} pairs show a difference in success of {success['detectable']:.2f} with 80 % power"


def table(report: Mapping[str, Any], *, all_archetypes: bool = False) -> str:
    """Return the table for stdout: rates of every model, the paired tests, why sessions failed, success by archetype.

    Args:
        report: what `build_report` made.
        all_archetypes: also show archetypes with fewer than `FEW` scenarios.
    """
    models, sizes = report["models"], report["scenarios"]["archetypes"]
    names = [m["name"] for m in models]
    header = " · ".join(f"{k} {v}" for k, v in facts(report).items())
    rows = [["", *names], *([label, *(rate_text(m["rates"][name]) for m in models)] for name, label in LABELS.items())]
    rows += [[label, *cells] for label, cells, _ in more_rows(models)]
    blocks = [[header, "rates: k/n, proportion, 95 % Wilson interval"], aligned(rows)]
    if report["baselines"]:
        rows = [["doing nothing", "verified", "success"]]
        for b in report["baselines"]:
            rows.append([f"  {b['name']}", *(count_text(b["rates"][name]) for name in ("verified", "success"))])
        blocks.append(aligned(rows))
    for comparison in report["paired"]:
        first, second = comparison["first"], comparison["second"]
        rows = [["", "difference", "95 % interval", "over archetypes", "p", "p (Holm)"]]
        for name, p in comparison["rates"].items():
            difference = "-" if p["difference"] is None else f"{p['difference']:+.2f}"
            intervals = (interval_text((p["low"], p["high"]) if p["n"] else None), interval_text(p["clustered"]))
            rows.append([LABELS[name], difference, *intervals, p_text(p["p_value"]), p_text(p["p_holm"])])
        title = f"{second} against {first}, same worlds (exact McNemar; Holm over the rates)"
        blocks.append([title, *aligned(rows), power_text(comparison)])
    if kinds := failure_kinds(models):
        rows = [[f"  {kind}", *(str(m["failures"].get(kind, 0)) for m in models)] for kind in kinds]
        blocks.append(aligned([["why sessions failed", *names], *rows]))
    if shown := [a for a, n in sizes.items() if all_archetypes or n >= FEW]:
        nothing = {"success": {"n": 0}}
        rows = [[f"  {a}", *(rate_text(m["by_archetype"].get(a, nothing)["success"]) for m in models)] for a in shown]
        blocks.append(aligned([["success by archetype", *names], *rows]))
    if hidden := len(sizes) - len(shown):
        blocks.append([f"{hidden} archetype{'s' * (hidden != 1)} with fewer than {FEW} scenarios: see --by-archetype"])
    blocks.append(notes(report))
    return "\n\n".join("\n".join(block) for block in blocks if block)


def print_report(report: Mapping[str, Any], page: Path | None, *, as_json: bool, all_archetypes: bool) -> None:
    """Print a report on stdout, as JSON or as a table with the page's path below."""
    if as_json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
        return
    print(table(report, all_archetypes=all_archetypes))
    if page is not None:
        print(f"\nreport: {page}")
