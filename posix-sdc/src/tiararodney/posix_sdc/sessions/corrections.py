"""Corrections: the reference operator continues a session that went wrong, from the state that the session is in.

recorded session -> where it went astray -> its commands again in a fresh world -> the operator's -> Trajectory

Nothing is planned from a list of what the session did. Copies of the world, in which the session's commands are run
again, are asked where it stands: which commands of the work are still needed, tried until the checker is content, and
which files nobody asked for. The operator itself sees no more than the terminal has shown.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.errors import InfrastructureError, UnplayableError
from tiararodney.posix_sdc.sessions.loop import ATTEMPTS, Mistake, Session, run_session, turn_limit, unplayed
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator, Standing, removal, works_of
from tiararodney.posix_sdc.worlds.protocol import Limits, resolve_runtime

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tiararodney.posix_sdc.records.schema import Message, Scenario, Trajectory
    from tiararodney.posix_sdc.worlds.verdict import Check

_REPEATS = 3  # times that a command shows the same before the session counts as stuck, not in a row
_NO_LIMIT = 1_000_000  # commands in a copy

Plan = tuple[tuple[str, ...], ...]  # for each piece of work the commands that are left


class Astray(StrEnum):
    """How a session went wrong, by what is first in it."""

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
    """Types a session's first commands, which are no targets of training, then lets another operator go on."""

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
    with _replayed(scenario, (), runtime, limits) as session:
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


@contextmanager
def _replayed(scenario: Scenario, replies: Sequence[str], runtime: str, limits: Limits) -> Iterator[Session]:
    """Open a copy of a world in which these commands have been run."""
    session = Session(scenario, runtime, limits, _NO_LIMIT)
    with session.stack:
        for reply in replies:
            session.act(reply)
        yield session


# --------------------------------------------------------------------------------------------------- where it stands


@dataclass(frozen=True)
class Ends:
    """What a world is like at both ends of its work.

    Args:
        checks: before anything was done.
        files: after it was done the bundle's way, relative to the place of the work; a folder ends in a slash.
    """

    checks: tuple[Check, ...]
    files: frozenset[str]


def find_ends(scenario: Scenario, runtime: str, limits: Limits) -> Ends:
    """Ask copies of a world what it is like before and after its work."""
    with _replayed(scenario, (), runtime, limits) as session:
        checks = session.world.check().checks
    place = place_of(scenario)
    with _replayed(scenario, (), runtime, limits) as session:
        _run(session, place, [str(c) for guide in _due(scenario) for c in guide["solution"]])
        return Ends(checks, _files(session, place))


def _due(scenario: Scenario) -> list[Mapping[str, Any]]:
    """Return the pieces of work that have to be done, up to one that cannot be."""
    guides = [guide for _, guide in works_of(scenario)]
    return guides[: next((n for n, guide in enumerate(guides) if guide.get("block")), len(guides))]


def take_stock(scenario: Scenario, replies: Sequence[str], ends: Ends, runtime: str, limits: Limits) -> Standing | None:
    """Ask copies of a world where a session stands.

    Args:
        scenario: the world.
        replies: commands that were run in it.
        ends: of the world.
        runtime: ``docker`` or ``bwrap``.
        limits: of a world.

    Returns:
        What is left to do; None where no commands of the bundle's bring the world right from there.
    """
    place = place_of(scenario)
    with _replayed(scenario, replies, runtime, limits) as session:
        at, previous = (session.world.run(c).output.strip() for c in ("pwd", 'echo "${OLDPWD-}"'))
        files = _files(session, place)
        now = session.world.check()
    strays = _tops(files - ends.files)
    whole, due = [tuple(map(str, guide["solution"])) for _, guide in works_of(scenario)], _due(scenario)
    touched = now.checks != ends.checks  # else nothing has come of the session yet
    plans = list(_plans(due, whole[: len(due)], replies))

    def works(plan: Plan, gone: Sequence[str]) -> bool:
        if not gone and not any(plan):
            return now.passed
        with _replayed(scenario, replies, runtime, limits) as session:
            removing = [removal(gone)] if gone else []
            _run(session, place, [*removing, *(command for left in plan for command in left)])
            return session.world.check().passed

    for gone in dict.fromkeys((strays, ())):
        for plan in plans if touched else reversed(plans):
            if works(plan, gone):
                for n in range(len(plan)) if touched else ():  # what was done out of turn is not done again
                    without = (*plan[:n], (), *plan[n + 1 :])
                    if plan[n] and works(without, gone):
                        plan = without  # noqa: PLW2901 - the plan shrinks
                return Standing(at, previous, (*plan, *whole[len(due) :]), gone)
    return None


def place_of(scenario: Scenario) -> str:
    """Return the folder that a scenario's work lies in."""
    places = (d.extra.get("place", {}).get("path") for d in scenario.directives)
    return next((str(path) for path in places if path), scenario.workdir)


def _plans(
    guides: Sequence[Mapping[str, Any]], whole: Sequence[tuple[str, ...]], replies: Sequence[str]
) -> Iterator[Plan]:
    """Yield what may be left of each piece of work, from nothing at all to everything.

    A piece that was begun in another way than the bundle's first is gone on with in that way.
    """
    count = len(whole)
    yield ((),) * count
    for n in reversed(range(count)):
        ways = [whole[n], *(w for way in guides[n].get("ways", ()) if set(w := tuple(map(str, way))) & set(replies))]
        lefts = [way[k:] for k in range(max(map(len, ways)) - 1, -1, -1) for way in ways if k < len(way)]
        for left in dict.fromkeys(lefts):
            yield (*((),) * n, left, *whole[n + 1 :])


def _run(session: Session, place: str, commands: Sequence[str]) -> None:
    for command in (f"cd {place}", *commands):
        session.world.run(command)


def _files(session: Session, place: str) -> frozenset[str]:
    """Return all paths below a folder, relative to it."""
    listed = session.world.run(rf"cd {place} && find . -mindepth 1 -type d -printf '%p/\n' -o -print").output
    return frozenset(path.removeprefix("./") for path in listed.splitlines() if path.startswith("./"))


def _tops(paths: frozenset[str]) -> tuple[str, ...]:
    """Return those of some paths that lie below none of the others."""
    return tuple(
        sorted(p for p in paths if not any(p != above and p.startswith(above) for above in paths if above[-1] == "/"))
    )
