"""What an inspection found, in the order in which it is told: as text and on the page alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One line: what was found, how often, and where first."""

    name: str
    count: int
    places: tuple[str, ...]


def findings(report: Mapping[str, Any]) -> list[tuple[str, list[Finding]]]:
    """Return the kinds of findings that there are, each with its lines; serious ones first.

    Args:
        report: what `inspect.inspection` returns.
    """
    control = ((f"{c['token']} in {c['where']}", c) for c in report["control_token_text"])
    merges = ((repr(m["token"]), m) for m in report["border_merges"])
    kinds: list[tuple[str, Iterable[Finding]]] = [
        ("refused", _tallies(report["refusals"].items())),
        ("dropped while reading", _tallies(report["dropped"].items())),
        ("left out of training", _tally("over --max-length", report["over_max_length"])),
        ("leaks between splits", (_named(kind, names) for kind, names in report["leaks"].items() if names)),
        ("duplicates", _tally("sessions seen before", report["duplicates"])),
        ("text of control tokens", _tallies(control)),
        ("tokens across the border of prompt and reply", _tallies(merges)),
        ("split into several examples", _tally("sessions", report["split_sessions"])),
    ]
    told = [(title, list(lines)) for title, lines in kinds]
    return [(title, lines) for title, lines in told if lines]


def breaks(comparison: Mapping[str, Any]) -> list[str]:
    """Return a line for each turn that an endpoint serves otherwise than it was trained."""
    return [_break(d) for d in comparison["differences"]]


def verdict(comparison: Mapping[str, Any]) -> str:
    """Return in one line how an endpoint's prompts compare."""
    same = comparison["turns"] - len(comparison["differences"])
    unit = "token by token" if comparison["exact"] else "by the number of tokens"
    left = f", {comparison['too_long']} longer than its context left out" if comparison["too_long"] else ""
    return f"{same} of {comparison['turns']} turns are served as trained, {unit}{left} ({comparison['route']})"


def _break(d: Mapping[str, Any]) -> str:
    where = f"{d['session']}, turn {d['turn']}"
    if d["refusal"]:
        return f"{where}: the server refuses the messages: {d['refusal']}"
    lengths = f"{d['trained_length']} tokens trained, {d['served_length']} served"
    if d["position"] is None:
        return f"{where}: {lengths}"
    trained, served = (repr(d[k]) if d[k] else "its end" for k in ("trained", "served"))
    return f"{where}: token {d['position']} trained {trained}, served {served}, behind {d['before']!r} ({lengths})"


def _tallies(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> Iterable[Finding]:
    return (Finding(name, tally["count"], tuple(tally["places"])) for name, tally in rows)


def _tally(name: str, tally: Mapping[str, Any]) -> list[Finding]:
    return list(_tallies([(name, tally)])) if tally["count"] else []


def _named(kind: str, names: list[str]) -> Finding:
    return Finding(kind, len(names), tuple(names[:_NAMED]))
