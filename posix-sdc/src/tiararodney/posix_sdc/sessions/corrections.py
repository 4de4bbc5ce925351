"""Corrections: the reference operator continues a session that went wrong, from the state that the session is in.

recorded session -> where it went astray -> its commands again in a fresh world -> the operator's -> Trajectory

Nothing is planned from a list of what the session did. Copies of the world, in which the session's commands are run
again, are asked where it stands: which commands of the work are still needed, tried until the checker is content, and
which files nobody asked for. The operator itself sees no more than the terminal has shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError, UnplayableError
from tiararodney.posix_sdc.sessions.loop import ATTEMPTS, Mistake, run_session, turn_limit, unplayed
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator
from tiararodney.posix_sdc.sessions.stocktaking import find_ends, replayed, take_stock
from tiararodney.posix_sdc.worlds.protocol import Limits, resolve_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tiararodney.posix_sdc.records.schema import Message, Scenario, Trajectory

_REPEATS = 3  # times that a command shows the same before the session counts as stuck, not in a row


class Astray(StrEnum):
    """How a session went wrong, by its first fault."""

    PROSE = "prose"
    STUCK = "stuck"  # the same command showed the same again
    LONG = "long"  # half of the turns were gone
    ENDED = "ended"  # it ended wrongly, or too early
    DIFFERS = "differs"  # a world does not show the same again: the commands behind it cannot be repeated


@dataclass(frozen=True)
class Cut:
    """Where a session is taken over.

    Args:
        at: how many of its commands are left as they are.
        why: what the next command is, or leads to.
    """

    at: int
    why: Astray


def correct(
    scenario: Scenario,
    messages: Sequence[Message],
    runtime: str = "auto",
    limits: Limits | None = None,
    seed: int = 0,
    sample: int = 0,
    name: str = "corrected",
) -> Trajectory:
    """Let the reference operator continue a session that went wrong.

    It is taken over at the last turn before the first one that went astray (`find_cut`). Where the operator cannot
    bring the world right from there, say because an input is lost, the session is cut 1, 2, 4, 8 ... turns earlier, in
    the end before its first one.

    Args:
        scenario: the world.
        messages: the session, from its opening on.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of each world; the defaults of `Limits` where None.
        seed: of the operator's choices.
        sample: which session of the scenario it is.
        name: of who acts in it, for the record.

    Returns:
        The whole session. The turns of the session that went wrong are no targets of training, the operator's are. Its
        `meta` holds ``astray`` (see `Astray`) and ``cut``, the number of commands before the operator's first. Where
        the operator fails too, the last attempt, with `keep` false. A fault of ours is retried, then recorded with the
        outcome ``infrastructure``, and a bundle that cannot be stood up or played with ``bad_bundle``.
    """
    limits, runtime, reason = limits or Limits(), resolve_runtime(runtime), ""
    for _ in range(ATTEMPTS):
        try:
            return _correct(scenario, messages, runtime, limits, seed, sample, name)
        except UnplayableError as error:
            return unplayed(scenario, name, "bad_bundle", str(error), sample)
        except InfrastructureError as error:
            reason = str(error)
    return unplayed(scenario, name, "infrastructure", reason, sample)


def _correct(
    scenario: Scenario, messages: Sequence[Message], runtime: str, limits: Limits, seed: int, sample: int, name: str
) -> Trajectory:
    replies = [m["content"] for m in messages if m["role"] == "assistant"]
    cut = find_cut(scenario, messages, runtime, limits)
    ends = find_ends(scenario, runtime, limits)
    played = unplayed(scenario, name, "unverified", "the operator found no way", sample)
    for at in _earlier(cut.at):
        standing = take_stock(scenario, replies[:at], ends, runtime, limits)
        if standing is None:
            continue
        operator = _Continued(scenario, messages, at, ReferenceOperator(scenario, seed, sample, standing), name)
        played = run_session(scenario, operator, runtime, limits, sample=sample)
        played = replace(played, meta={**played.meta, "cut": at})
        if played.keep or played.outcome == "infrastructure":
            break
    return replace(played, meta={**played.meta, "astray": str(cut.why)})


def _earlier(at: int) -> Iterator[int]:
    """Yield a cut and earlier ones, further back each time, in the end 0."""
    back = 0
    while back < at:
        yield at - back
        back = 2 * back or 1
    yield 0


class _Continued:
    """Replays a session's first commands as context, then lets another operator continue."""

    def __init__(
        self, scenario: Scenario, messages: Sequence[Message], at: int, operator: ReferenceOperator, name: str
    ) -> None:
        self._scenario, self._messages, self._at, self._operator = scenario, list(messages), at, operator
        self.name = name
        self.reset = operator.reset

    def reply(self, messages: Sequence[Message]) -> str:
        typed = sum(m["role"] == "assistant" for m in messages)
        if typed > self._at:
            return self._operator.reply(messages)
        if [m["content"] for m in messages] != [m["content"] for m in self._messages[: len(messages)]]:
            raise UnplayableError(f"{self._scenario.id}: the world does not show the same as in the recorded session")
        return (
            self._operator.reply(messages) if typed == self._at else Mistake(self._messages[len(messages)]["content"])
        )


# ----------------------------------------------------------------------------------------------- where it went astray


def find_cut(scenario: Scenario, messages: Sequence[Message], runtime: str, limits: Limits) -> Cut:
    """Return where to take a session over: before the first command that no continuation could make good.

    That is a reply in prose; a command that shows what it showed just before, or twice before; the one that ends the
    session; or, so that enough turns are left, the one at half of the session's limit. A command that merely fails, or
    does the wrong thing, is left in the session: to put it right is what there is to learn.

    Args:
        scenario: the world.
        messages: the session.
        runtime: ``docker`` or ``bwrap``.
        limits: of a world.
    """
    replies = [i for i, m in enumerate(messages) if m["role"] == "assistant"]
    half, shown = turn_limit(scenario) // 2, list[tuple[str, str]]()
    with replayed(scenario, (), runtime, limits) as session:
        for n, i in enumerate(replies):
            if session.messages() != [{"role": m["role"], "content": m["content"]} for m in messages[:i]]:
                return Cut(max(n - 1, 0), Astray.DIFFERS)
            if n == half or n == len(replies) - 1:
                return Cut(n, Astray.LONG if n == half else Astray.ENDED)
            session.act(messages[i]["content"])
            if session.prose:
                return Cut(n, Astray.PROSE)
            if session.ended:
                return Cut(n, Astray.DIFFERS)
            now = (messages[i]["content"].strip(), session.turns[-1].content)
            if shown[-1:] == [now] or shown.count(now) == _REPEATS - 1:
                return Cut(n, Astray.STUCK)
            shown.append(now)
    return Cut(0, Astray.ENDED)
