"""Why an episode was no success: the first cause that applies, out of a closed set."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tiararodney.sekft.eval.episodes import Episode

REPEATS = 3
"""So many equal commands at the end of a session that ran out of turns or time are a loop."""

# Names that posix-sdc gives to the checks of a session that gave up, see its `sessions.judgement`.
_READ, _REASON = "the directive was read", "the reason names the cause"
_GIVING_UP = {_READ, _REASON}


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


def failure(e: Episode) -> Failure | None:
    """Return why an episode failed; None for a success and for an infrastructure error."""
    if e.infrastructure or e.keep:
        return None
    if any(g.stop in ("length", "context") for g in e.generations):
        return Failure.TOKEN_LIMIT
    if e.prose_turns or e.clean is False:
        return Failure.PROSE
    if e.ended in ("turn_limit", "time_limit"):
        if _loops(e):
            return Failure.REPEATED
        return Failure.STEP_LIMIT if e.ended == "turn_limit" else Failure.TIME_LIMIT
    if e.ended not in ("exit", "panic"):
        return Failure.DIED
    if e.ended != e.terminal:
        return Failure.WRONG_TERMINAL
    failed = {c.name for c in e.checks if not c.passed}
    if failed <= _GIVING_UP and failed:
        return Failure.UNREAD if _READ in failed else Failure.REASON
    return Failure.CHECKER


def _loops(e: Episode) -> bool:
    commands = [m["content"].strip() for m in e.messages if m["role"] == "assistant"]
    return len(commands) >= REPEATS and len(set(commands[-REPEATS:])) == 1


def tally(episodes: Iterable[Episode]) -> dict[str, int]:
    """Count failures by kind, the most frequent first; kinds that did not occur are left out."""
    return dict(Counter(str(f) for e in episodes if (f := failure(e)) is not None).most_common())
