"""What is counted of an episode, and the rates over many."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from tiararodney.sekft.eval.statistics import Paired, Rate, paired, wilson

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


def rates(episodes: Iterable[Episode]) -> dict[str, Rate]:
    """Return every rate over the counted episodes, each with its own k and n."""
    rows = counted(episodes)
    out = {}
    for name, predicate in RATES.items():
        known = [bool(v) for v in map(predicate, rows) if v is not None]
        out[name] = wilson(sum(known), len(known))
    return out


def by_archetype(episodes: Iterable[Episode]) -> dict[str, dict[str, Rate]]:
    """Return the rates of each archetype, archetypes in alphabetical order."""
    groups: dict[str, list[Episode]] = {}
    for e in episodes:
        groups.setdefault(e.archetype, []).append(e)
    return {name: rates(groups[name]) for name in sorted(groups)}


def compare(first: Sequence[Episode], second: Sequence[Episode]) -> dict[str, Paired]:
    """Pair two contestants by scenario; a scenario counts only where both have a counted episode."""
    theirs = {e.scenario_id: e for e in counted(second)}
    pairs = [(e, theirs[e.scenario_id]) for e in counted(first) if e.scenario_id in theirs]
    out = {}
    for name, predicate in RATES.items():
        known = [(predicate(a), predicate(b)) for a, b in pairs]
        out[name] = paired([(a, b) for a, b in known if a is not None and b is not None])
    return out
