"""Finds the state of a session by replaying it in copies of its world: remaining work and stray files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.sessions.loop import Session
from tiararodney.posix_sdc.sessions.operators.standing import Standing, removal, works_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.protocol import Limits
    from tiararodney.posix_sdc.worlds.verdict import Check

_NO_LIMIT = 1_000_000  # commands in a copy

Plan = tuple[tuple[str, ...], ...]  # for each piece of work the commands that are left


@contextmanager
def replayed(scenario: Scenario, replies: Sequence[str], runtime: str, limits: Limits) -> Iterator[Session]:
    """Open a copy of a world in which these commands have been run."""
    session = Session(scenario, runtime, limits, _NO_LIMIT)
    with session.stack:
        for reply in replies:
            session.act(reply)
        yield session


@dataclass(frozen=True)
class Ends:
    """The state of a world before and after its work.

    Args:
        checks: before anything was done.
        files: after it was done the bundle's way, relative to the place of the work; a folder ends in a slash.
    """

    checks: tuple[Check, ...]
    files: frozenset[str]


def find_ends(scenario: Scenario, runtime: str, limits: Limits) -> Ends:
    """Take the state of a world before and after its work from copies of it."""
    with replayed(scenario, (), runtime, limits) as session:
        checks = session.world.check().checks
    place = place_of(scenario)
    with replayed(scenario, (), runtime, limits) as session:
        _run(session, place, [str(c) for guide in _due(scenario) for c in guide["solution"]])
        return Ends(checks, _files(session, place))


def _due(scenario: Scenario) -> list[Mapping[str, Any]]:
    """Return the pieces of work that have to be done, up to one that cannot be."""
    guides = works_of(scenario)
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
    with replayed(scenario, replies, runtime, limits) as session:
        at, previous = (session.world.run(c).output.strip() for c in ("pwd", 'echo "${OLDPWD-}"'))
        files = _files(session, place)
        now = session.world.check()
    strays = _tops(files - ends.files)
    whole, due = [tuple(map(str, guide["solution"])) for guide in works_of(scenario)], _due(scenario)
    touched = now.checks != ends.checks  # else nothing has come of the session yet
    plans = list(_plans(due, whole[: len(due)], replies))

    def works(plan: Plan, gone: Sequence[str]) -> bool:
        if not gone and not any(plan):
            return now.passed
        with replayed(scenario, replies, runtime, limits) as session:
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

    A piece that was started in one of the alternative ways is continued in that way.
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
