"""What is counted of an episode: the rates, and why it was no success, the first cause that applies of a closed set."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from typing import TYPE_CHECKING

from tiararodney.sekft.eval.statistics import Paired, Rate, clustered_interval, group, holm, paired, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tiararodney.sekft.eval.episodes import Episode

REPEATS = 3
"""So many equal commands at the end of a session that ran out of turns or time are a loop."""

# Names that posix-sdc gives to the checks of a session that gave up, see its `sessions.judgement`.
_READ, _REASON = "the directive was read", "the reason names the cause"

RATES: Mapping[str, Callable[[Episode], bool]] = {
    "operate": lambda e: e.commands > 0 and e.clean,
    "terminate": lambda e: e.ended in ("exit", "panic"),
    "clean_termination": lambda e: e.ended in ("exit", "panic") and e.ended == e.terminal,
    "verified": lambda e: e.verified,
    "success": lambda e: e.keep,
}
"""What each rate counts, in the order of the report."""

MEANINGS: Mapping[str, str] = {
    "operate": "at least one command ran and no turn was prose",
    "terminate": "ended the session itself, with exit or panic",
    "clean_termination": "ended it with the ending that the scenario calls for",
    "verified": "the checker passes on the world's final state",
    "success": "right ending, verified, and every turn a command",
}
LABELS = {name: name.replace("_", " ") for name in RATES}


def counted(episodes: Iterable[Episode]) -> list[Episode]:
    """Return the episodes that say something about a model: all but infrastructure errors."""
    return [e for e in episodes if not e.infrastructure]


def rates(episodes: Iterable[Episode], *, clustered: bool = False) -> dict[str, Rate]:
    """Return every rate over one contestant's counted episodes; `clustered` adds the interval over archetypes."""
    rows = counted(episodes)
    out = {}
    for name, holds in RATES.items():
        values = [float(holds(e)) for e in rows]
        rate = wilson(int(sum(values)), len(rows))
        if clustered:
            rate = replace(rate, clustered=clustered_interval(group([e.archetype for e in rows], values)))
        out[name] = rate
    return out


def compare(first: Sequence[Episode], second: Sequence[Episode]) -> dict[str, Paired]:
    """Pair two contestants by scenario and repeat; a pair counts only where both have a counted episode."""
    theirs = {(e.scenario_id, e.sample): e for e in counted(second)}
    pairs = [(e, theirs[e.scenario_id, e.sample]) for e in counted(first) if (e.scenario_id, e.sample) in theirs]
    archetypes, scenarios = [e.archetype for e, _ in pairs], [e.scenario_id for e, _ in pairs]
    found = {
        name: paired([(holds(a), holds(b)) for a, b in pairs], archetypes, scenarios) for name, holds in RATES.items()
    }
    adjusted = holm({name: pair.p_value for name, pair in found.items()})
    return {name: replace(pair, p_holm=adjusted[name]) for name, pair in found.items()}


class Failure(StrEnum):
    """Why an episode failed, in the order in which the causes are looked for."""

    TOKEN_LIMIT = "token limit"  # noqa: S105 - tokens of a model
    PROSE = "prose turn"
    REPEATED = "repeated command"
    STEP_LIMIT = "step limit"
    TIME_LIMIT = "time limit"
    DIED = "session died"
    WRONG_TERMINAL = "wrong terminal"
    UNREAD = "directive not read"
    REASON = "reason wrong"
    CHECKER = "checker failed"


SUCCESS, INFRASTRUCTURE = "success", "infrastructure error"


def failure(e: Episode) -> Failure | None:
    """Return why an episode failed; None for a success and for an infrastructure error."""
    if e.infrastructure or e.keep:
        return None
    if any(g.stop in ("length", "context") for g in e.generations):
        return Failure.TOKEN_LIMIT
    if not e.clean:
        return Failure.PROSE
    if e.ended in ("turn_limit", "time_limit"):
        last = [m["content"].strip() for m in e.messages if m["role"] == "assistant"][-REPEATS:]
        if len(last) == REPEATS and len(set(last)) == 1:
            return Failure.REPEATED
        return Failure.STEP_LIMIT if e.ended == "turn_limit" else Failure.TIME_LIMIT
    if e.ended not in ("exit", "panic"):
        return Failure.DIED
    if e.ended != e.terminal:
        return Failure.WRONG_TERMINAL
    failed = {name for name, passed in e.checks.items() if not passed}
    if failed and failed <= {_READ, _REASON}:
        return Failure.UNREAD if _READ in failed else Failure.REASON
    return Failure.CHECKER


def result(e: Episode) -> str:
    """Return in words what an episode came to: a success, the kind of its failure, or an infrastructure error."""
    return INFRASTRUCTURE if e.infrastructure else str(failure(e) or SUCCESS)
