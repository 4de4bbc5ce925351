"""The report of a run: one record (`report.json`) and one aligned table (stdout)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan
from statistics import mean
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.eval.failures import tally
from tiararodney.sekft.eval.operators import BASELINES
from tiararodney.sekft.eval.rates import RATES, by_archetype, compare, counted, partial_credit, rates, tries
from tiararodney.sekft.eval.statistics import holm, pass_at_k, pass_hat_k

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.statistics import Rate

SCHEMA_VERSION = 2
FEW = 5
"""An archetype with fewer scenarios says little by itself: its row is left out of the terminal's table."""
LABELS = {
    "operate": "operate",
    "terminate": "terminate",
    "clean_termination": "clean termination",
    "verified": "verified",
    "success": "success",
}
MEANINGS = {
    "operate": "at least one command ran and no turn was prose",
    "terminate": "ended the session itself, with exit or panic",
    "clean_termination": "ended it with the ending that the scenario calls for",
    "verified": "the checker passes on the world's final state",
    "success": "right ending, verified, and every turn a command",
}


BASE, ADAPTER, ENDPOINT, OPERATOR = "base", "adapter", "endpoint", "operator"
LOCAL = (BASE, ADAPTER)


@dataclass(frozen=True)
class Contestant:
    """Who is evaluated.

    Args:
        name: its name in the report, unique in a run.
        kind: ``base``, ``adapter``, ``endpoint``, or ``operator`` for a script.
        path: folder of the model or adapter, or the endpoint's URL.
        fingerprint: what tells this model from another under the same path; empty for an endpoint.
        contract: ``match``, ``none`` (nothing to check) or the mismatch that the user chose to ignore.
    """

    name: str
    kind: str
    path: str
    fingerprint: str = ""
    contract: str = "none"


def build_report(
    contestants: Sequence[Contestant], episodes: Sequence[Episode], run: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the report as JSON values.

    Args:
        contestants: in the order of the report; the first one is what the others are paired with.
        episodes: of all of them, and of the operators that do nothing (`operators.BASELINES`).
        run: what holds for the whole run (config, versions, seed, runtime, scenarios), taken over as it is.
    """
    played = {c.name: [e for e in episodes if e.model == c.name] for c in contestants}
    first, *others = contestants
    return {
        "schema_version": SCHEMA_VERSION,
        **run,
        "models": [asdict(c) | _counts(played[c.name]) for c in contestants],
        "paired": [_comparison(first.name, other.name, played) for other in others],
        "baselines": [
            {"name": name, "n": len(counted(rows)), "rates": {k: _rate(r) for k, r in rates(rows).items()}}
            for name in BASELINES
            if (rows := [e for e in episodes if e.model == name])
        ],
    }


def _counts(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Return all that is counted of one contestant's episodes."""
    rows = counted(episodes)
    successes, trials = tries(rows)
    repeats = max(trials, default=1)
    return {
        "episodes": len(episodes),
        "n": len(rows),
        "infrastructure_errors": len(episodes) - len(rows),
        "rates": {k: _rate(r) for k, r in rates(episodes, clustered=True).items()},
        "by_archetype": {a: {k: _rate(r) for k, r in g.items()} for a, g in by_archetype(episodes).items()},
        "failures": tally(episodes),
        "checks_passed": partial_credit(episodes),
        "repeats": repeats,
        "pass_at": {str(k): _known(pass_at_k(successes, trials, k)) for k in _ladder(repeats)},
        "pass_all": {str(k): _known(pass_hat_k(successes, trials, k)) for k in _ladder(repeats)},
        "commands": mean(e.commands for e in rows) if rows else None,
        "tokens": mean(sum(len(g.reply_ids) for g in e.generations) for e in rows) if rows else None,
        "seconds": mean(e.seconds for e in rows) if rows else None,
    }


def _known(value: float) -> float | None:
    return None if isnan(value) else value


def _ladder(repeats: int) -> list[int]:
    """Return the k of pass@k: 1, every power of two, and the number of repeats."""
    powers = [2**i for i in range(repeats.bit_length())]
    return sorted({*(k for k in powers if k <= repeats), repeats})


def _comparison(first: str, second: str, played: Mapping[str, Sequence[Episode]]) -> dict[str, Any]:
    pairs = compare(played[first], played[second])
    adjusted = holm({name: p.p_value for name, p in pairs.items()})
    return {
        "first": first,
        "second": second,
        "rates": {k: asdict(p) | {"n": p.n, "p_holm": adjusted[k]} for k, p in pairs.items()},
    }


def _rate(r: Rate) -> dict[str, Any]:
    return {"k": r.k, "n": r.n, "value": r.value, "low": r.low, "high": r.high, "clustered": r.clustered}


# ----------------------------------------------------------------------------------------------------------- table


def headline(report: Mapping[str, Any]) -> str:
    """Return one line that says on what and how the models were played."""
    config, scenarios = report["config"], report["scenarios"]
    n, kinds = scenarios["n"], len(scenarios["archetypes"])
    parts = [
        f"runtime {report['runtime']}",
        f"{n} scenario{'s' * (n != 1)} of {kinds} archetype{'s' * (kinds != 1)}",
        "greedy" if config["temperature"] == 0 else f"temperature {config['temperature']:g}, seed {config['seed']}",
        "turns by scenario" if config["max_turns"] is None else f"at most {config['max_turns']} turns",
        f"{config['max_new_tokens']} tokens per reply",
    ]
    if config["load_4bit"]:
        parts.append("base in NF4")
    return " · ".join(parts)


def faults(n: int) -> str:
    """Count infrastructure errors in words."""
    return f"{n} infrastructure error{'s' * (n != 1)}"


def p_text(p: float) -> str:
    """Write a p-value with as many digits as say something."""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"  # noqa: PLR2004 - three digits show nothing below it


def table(report: Mapping[str, Any], *, all_archetypes: bool = False) -> str:
    """Return the table for stdout: rates of every model, the paired tests, why sessions failed, each archetype.

    Args:
        report: what `build_report` made.
        all_archetypes: also show archetypes with fewer than `FEW` sessions.
    """
    models = report["models"]
    lines = [headline(report), "rates: k/n, proportion, 95 % Wilson interval", ""]
    rows = [["", *(m["name"] for m in models)]]
    rows += [[LABELS[name], *(rate_text(m["rates"][name]) for m in models)] for name in RATES]
    if any(m["checks_passed"] is not None for m in models):
        rows.append(["checks passed", *(share_text(m["checks_passed"]) for m in models)])
    if any(m["repeats"] > 1 for m in models):
        for name, key in (("pass@", "pass_at"), ("pass^", "pass_all")):
            for k in max((m[key] for m in models), key=len):
                rows.append([f"{name}{k}", *(share_text(m[key].get(k)) for m in models)])
    lines += _align(rows)
    if report["baselines"]:
        rows = [["doing nothing", "verified", "success"]]
        rows += [
            [f"  {b['name']}", *(count_text(b["rates"][k]) for k in ("verified", "success"))]
            for b in report["baselines"]
        ]
        lines += ["", *_align(rows)]
    for comparison in report["paired"]:
        lines += ["", *_paired_lines(comparison)]
    lines += _failure_lines(models)
    lines += _archetype_lines(report, all_archetypes)
    for m in models:
        if m["infrastructure_errors"]:
            lines.append(f"{m['name']}: {faults(m['infrastructure_errors'])}, counted in no rate")
        if m["contract"] not in ("match", "none"):
            lines.append(f"{m['name']}: RENDER CONTRACT IGNORED: {m['contract']}")
    return "\n".join(lines)


def share_text(value: float | None) -> str:
    """Write a share with two digits, a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"


def _paired_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Return the paired table of one comparison, with the smallest difference its pairs could have shown."""
    rows = [["", "difference", "95 % interval", "over archetypes", "p", "p (Holm)"]]
    for name, p in comparison["rates"].items():
        rows.append(
            [
                LABELS[name],
                "-" if p["difference"] is None else f"{p['difference']:+.2f}",
                interval_text((p["low"], p["high"])) if p["n"] else "-",
                interval_text(p["clustered"]),
                p_text(p["p_value"]),
                p_text(p["p_holm"]),
            ]
        )
    success = comparison["rates"]["success"]
    shown = success["detectable"]
    power = (
        f"these {success['n']} pairs show a difference in success of {shown:.2f} with 80 % power"
        if shown is not None
        else f"{success['n']} pairs are too few to show any difference"
    )
    title = f"{comparison['second']} against {comparison['first']}, same worlds (exact McNemar; Holm over the rates)"
    return [title, *_align(rows), power]


def interval_text(interval: Sequence[float] | None) -> str:
    """Write a difference's interval as ``[-0.10, +0.35]``, a dash where there is none."""
    return "-" if interval is None else f"[{interval[0]:+.2f}, {interval[1]:+.2f}]"


def _failure_lines(models: Sequence[Mapping[str, Any]]) -> list[str]:
    kinds = list(dict.fromkeys(kind for m in models for kind in m["failures"]))
    if not kinds:
        return []
    rows = [["why sessions failed", *(m["name"] for m in models)]]
    rows += [[f"  {kind}", *(str(m["failures"].get(kind, 0)) for m in models)] for kind in kinds]
    return ["", *_align(rows)]


def _archetype_lines(report: Mapping[str, Any], all_archetypes: bool) -> list[str]:
    models, sizes = report["models"], report["scenarios"]["archetypes"]
    shown = [a for a, n in sizes.items() if all_archetypes or n >= FEW]
    lines = []
    if shown:
        rows = [["success by archetype", *(m["name"] for m in models)]]
        rows += [[f"  {a}", *(rate_text(m["by_archetype"].get(a, {}).get("success")) for m in models)] for a in shown]
        lines += ["", *_align(rows)]
    if len(shown) < len(sizes):
        hidden = len(sizes) - len(shown)
        lines.append(f"{hidden} archetype{'s' * (hidden != 1)} with fewer than {FEW} scenarios: see --by-archetype")
    return lines


def count_text(rate: Mapping[str, Any]) -> str:
    """Write a rate as ``9/16``, a dash where nothing was counted."""
    return f"{rate['k']}/{rate['n']}" if rate["n"] else "-"


def rate_text(rate: Mapping[str, Any] | None) -> str:
    """Write a rate as ``9/16 0.56 [0.33, 0.77]``, a dash where nothing was counted."""
    if rate is None or not rate["n"]:
        return "-"
    return f"{rate['k']:>2}/{rate['n']} {rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
