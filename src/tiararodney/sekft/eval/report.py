"""The report of a run: one record (`report.json`) and one aligned table (stdout)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.sekft.eval.rates import RATES, by_archetype, compare, counted, rates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode
    from tiararodney.sekft.eval.statistics import Paired, Rate

SCHEMA_VERSION = 1
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


@dataclass(frozen=True)
class Contestant:
    """Who is evaluated.

    Args:
        name: its name in the report, unique in a run.
        kind: ``base``, ``adapter`` or ``endpoint``.
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
        episodes: of all of them.
        run: what holds for the whole run (config, versions, seed, runtime, scenarios), taken over as it is.
    """
    played = {c.name: [e for e in episodes if e.model == c.name] for c in contestants}
    first, *others = contestants
    return {
        "schema_version": SCHEMA_VERSION,
        **run,
        "models": [
            asdict(c)
            | {
                "episodes": len(played[c.name]),
                "n": len(counted(played[c.name])),
                "infrastructure_errors": sum(bool(e.infrastructure) for e in played[c.name]),
                "rates": {k: _rate(r) for k, r in rates(played[c.name]).items()},
                "by_archetype": {
                    a: {k: _rate(r) for k, r in group.items()} for a, group in by_archetype(played[c.name]).items()
                },
                "outcomes": _tally(e.outcome for e in played[c.name]),
            }
            for c in contestants
        ],
        "paired": [
            {
                "first": first.name,
                "second": other.name,
                "rates": {k: _paired(p) for k, p in compare(played[first.name], played[other.name]).items()},
            }
            for other in others
        ],
    }


def _rate(r: Rate) -> dict[str, Any]:
    return {"k": r.k, "n": r.n, "value": r.value, "low": r.low, "high": r.high}


def _paired(p: Paired) -> dict[str, Any]:
    return asdict(p) | {"n": p.n}


def _tally(values: Iterable[str]) -> dict[str, int]:
    out: dict[str, int] = {}
    for value in values:
        out[value] = out.get(value, 0) + 1
    return dict(sorted(out.items()))


# ----------------------------------------------------------------------------------------------------------- table


def headline(report: Mapping[str, Any]) -> str:
    """Return one line that says on what and how the models were played."""
    config, scenarios = report["config"], report["scenarios"]
    n, kinds = scenarios["n"], len(scenarios["archetypes"])
    parts = [
        f"runtime {report['runtime']}",
        f"{n} scenario{'s' * (n != 1)} of {kinds} archetype{'s' * (kinds != 1)}",
        "greedy" if config["temperature"] == 0 else f"temperature {config['temperature']:g}, seed {config['seed']}",
        f"at most {config['max_turns']} turns of {config['max_new_tokens']} tokens",
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


def table(report: Mapping[str, Any]) -> str:
    """Return the table for stdout: rates of every model, the paired tests, then each archetype."""
    models = report["models"]
    rows = [["", *(m["name"] for m in models), *(f"p ({q['first']} vs {q['second']})" for q in report["paired"])]]
    for name in RATES:
        row = [LABELS[name], *(rate_text(m["rates"][name]) for m in models)]
        rows.append(row + [p_text(q["rates"][name]["p_value"]) for q in report["paired"]])
    width = len(rows[0])
    for archetype in report["scenarios"]["archetypes"]:
        rows.append([archetype] + [""] * (width - 1))
        for name in RATES:
            cells = [rate_text(m["by_archetype"].get(archetype, {}).get(name)) for m in models]
            rows.append([f"  {LABELS[name]}", *cells, *([""] * len(report["paired"]))])
    lines = [
        headline(report),
        "rates: k/n, proportion, 95 % Wilson interval; p: exact McNemar test, paired by scenario",
        "",
    ]
    lines += _align(rows)
    for m in models:
        if m["infrastructure_errors"]:
            lines.append(f"{m['name']}: {faults(m['infrastructure_errors'])}, counted in no rate")
        if m["contract"] not in ("match", "none"):
            lines.append(f"{m['name']}: RENDER CONTRACT IGNORED: {m['contract']}")
    return "\n".join(lines)


def rate_text(rate: Mapping[str, Any] | None) -> str:
    """Write a rate as ``9/16 0.56 [0.33, 0.77]``, a dash where nothing was counted."""
    if rate is None or not rate["n"]:
        return "-"
    return f"{rate['k']:>2}/{rate['n']} {rate['value']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"


def _align(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
