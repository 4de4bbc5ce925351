"""What is counted of an episode, and the rates over many."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from tiararodney.sekft.eval.statistics import Paired, Rate, clustered_interval, group, paired, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode


def operated(e: Episode) -> bool | None:
    """At least one command ran and no turn was prose; None where the record does not tell."""
    if e.commands == 0:
        return False
    return e.clean


def terminated(e: Episode) -> bool | None:
    """The model ended the session itself, with `exit` or `panic`."""
    return e.ended in ("exit", "panic")


def terminated_cleanly(e: Episode) -> bool | None:
    """The model ended the session itself, with the ending that the scenario calls for."""
    return e.ended in ("exit", "panic") and e.ended == e.terminal


def verified(e: Episode) -> bool | None:
    """The checker passed on the world's final state."""
    return e.verified


def succeeded(e: Episode) -> bool | None:
    """The session would be kept as training data: right terminal, verified, every turn a command."""
    return e.keep


RATES: Mapping[str, Callable[[Episode], bool | None]] = MappingProxyType(
    {
        "operate": operated,
        "terminate": terminated,
        "clean_termination": terminated_cleanly,
        "verified": verified,
        "success": succeeded,
    }
)
"""The rates in the order of the report. A None is not counted, neither in k nor in n."""


def counted(episodes: Iterable[Episode]) -> list[Episode]:
    """Return the episodes that say something about a model: all but infrastructure errors."""
    return [e for e in episodes if not e.infrastructure]


def rates(episodes: Iterable[Episode], *, clustered: bool = False) -> dict[str, Rate]:
    """Return every rate over the counted episodes, each with its own k and n.

    Args:
        episodes: of one contestant.
        clustered: also give the interval from a bootstrap over archetypes.
    """
    rows = counted(episodes)
    out = {}
    for name, predicate in RATES.items():
        known = [(e.archetype, bool(v)) for e in rows if (v := predicate(e)) is not None]
        rate = wilson(sum(v for _, v in known), len(known))
        if clustered:
            rate = replace(
                rate, clustered=clustered_interval(group([a for a, _ in known], [float(v) for _, v in known]))
            )
        out[name] = rate
    return out


def by_archetype(episodes: Iterable[Episode]) -> dict[str, dict[str, Rate]]:
    """Return the rates of each archetype, archetypes in alphabetical order."""
    groups: dict[str, list[Episode]] = {}
    for e in episodes:
        groups.setdefault(e.archetype, []).append(e)
    return {name: rates(groups[name]) for name in sorted(groups)}


def compare(first: Sequence[Episode], second: Sequence[Episode]) -> dict[str, Paired]:
    """Pair two contestants by scenario and repeat; a pair counts only where both have a counted episode."""
    theirs = {(e.scenario_id, e.sample): e for e in counted(second)}
    pairs = [(e, theirs[e.scenario_id, e.sample]) for e in counted(first) if (e.scenario_id, e.sample) in theirs]
    out = {}
    for name, predicate in RATES.items():
        known = [
            (a, b, e) for e, other in pairs if (a := predicate(e)) is not None and (b := predicate(other)) is not None
        ]
        out[name] = paired(
            [(a, b) for a, b, _ in known], [e.archetype for *_, e in known], [e.scenario_id for *_, e in known]
        )
    return out


def tries(episodes: Iterable[Episode]) -> tuple[list[int], list[int]]:
    """Return (successes, tries) of each scenario, for `pass_at_k` and `pass_hat_k`."""
    kept: dict[str, list[bool]] = {}
    for e in counted(episodes):
        kept.setdefault(e.scenario_id, []).append(e.keep)
    return [sum(v) for v in kept.values()], [len(v) for v in kept.values()]


def partial_credit(episodes: Iterable[Episode]) -> float | None:
    """Return the mean share of checks that passed, over episodes whose verdict lists its checks; None without any."""
    shares = [sum(c.passed for c in e.checks) / len(e.checks) for e in counted(episodes) if e.checks]
    return sum(shares) / len(shares) if shares else None
