"""The whole import: each task's gold command is played, its scenario is gated, and what cannot be had is left out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.intercode_alfa.bundle import scenario_of
from tiararodney.posix_sdc.factory.intercode_alfa.outcome import SECONDS, play
from tiararodney.posix_sdc.factory.intercode_alfa.standup import SYSTEM, stand_up, world_of
from tiararodney.posix_sdc.sessions.gate import judge
from tiararodney.posix_sdc.support.parallel import each
from tiararodney.posix_sdc.worlds.protocol import Limits, abort_worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.factory.intercode_alfa.outcome import Outcome
    from tiararodney.posix_sdc.factory.intercode_alfa.package import Package, Task
    from tiararodney.posix_sdc.records.schema import Scenario, Split

NETWORK = "it needs a network"
CHANGES = "its answer changes with the clock or the load"
RECENT = "it asks for what was changed lately, and a world's files are older"
MISSING = "a program that it uses is missing"
LACKING = "it reads a file of the system that a world lacks"
RIGHTS = "it needs root's rights"
ENDLESS = "it does not end in time"
LONG = "it prints too much, or what is no text"
NOTHING = "its gold command prints nothing and changes nothing"
UNSTEADY = "its gold command does something else each time"
DIFFERS = "its gold command does something else in the other runtime"

# Words of a gold command, outside of its arguments' own text as far as a pattern can tell.
_BEGINS = r"(?:^|[|;&(`]\s*|\bxargs\s+)"
_STATIC = (
    (NETWORK, re.compile(rf"{_BEGINS}(curl|wget|dig|nslookup|ping|ifconfig|route|netstat|hostname\s+-[iI])\b")),
    (
        CHANGES,
        re.compile(
            rf"{_BEGINS}(date|uptime|w|who|free|vmstat|ps|pstree|df|lsof|top|last|time|cal\s+-\d$)(\s|$|\|)|\$\$|\$\(date\)"
        ),
    ),
    (RECENT, re.compile(r"-[acm](time|min)\s+-\d")),
)
_ABSENT = re.compile(r"[\w./-]+: command not found")
_LACKS = re.compile(rf"/({'|'.join(map(re.escape, SYSTEM))})/[^\s:]*: No such file or directory")
_DENIED = re.compile(
    r"Permission denied|Operation not permitted|Read-only file system|superuser|must be (run as )?root", re.I
)


@dataclass(frozen=True)
class LeftOut:
    """A task that is no scenario here.

    Args:
        task: which.
        reason: one of the constants of this module.
        detail: what was seen, empty where the reason says it all.
    """

    task: Task
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Import:
    """What is made of which package.

    Args:
        package: the tasks.
        form: ``plain`` or ``citizen``.
        split: what the scenarios say of themselves.
        runtimes: the gold command is played in the first, and the scenario has to pass the gate in each.
        jobs: worlds at a time.
    """

    package: Package
    form: str
    split: Split
    runtimes: Sequence[str]
    jobs: int


def import_tasks(
    plan: Import, keep: Callable[[Scenario], None], step: Callable[[str], None] = lambda _: None
) -> list[LeftOut]:
    """Make scenarios of a package's tasks.

    Args:
        plan: what is made.
        keep: given each scenario.
        step: told ``made`` or ``left out`` for each task.

    Returns:
        The tasks that were left out, by index.

    Raises:
        InfrastructureError: a world failed.
    """
    left_out: list[LeftOut] = []
    todo: list[tuple[Task, Scenario]] = []

    def leave(task: Task, reason: str, detail: str = "") -> None:
        left_out.append(LeftOut(task, reason, detail))
        step("left out")

    systems = plan.package.file_systems
    fixtures = {number: stand_up(system, plan.runtimes[0]) for number, system in systems.items()}

    def record(task: Task) -> tuple[Task, Outcome]:
        world = world_of(fixtures[task.file_system], systems[task.file_system].variables)
        return task, play(world, task.gold, plan.runtimes[0])

    def recorded(result: tuple[Task, Outcome]) -> None:
        task, outcome = result
        reason, detail = _unfit(outcome, plan.form)
        if reason:
            leave(task, reason, detail)
        else:
            files = fixtures[task.file_system]
            todo.append((task, scenario_of(plan.package, task, files, outcome, plan.form, plan.split)))

    def gated(result: tuple[Task, Scenario, str, str]) -> None:
        task, scenario, reason, detail = result
        if reason:
            leave(task, reason, detail)
        else:
            keep(scenario)
            step("made")

    playable: list[Task] = []
    for task in plan.package.tasks:
        reason = next((reason for reason, pattern in _STATIC if pattern.search(task.gold)), "")
        if reason:
            leave(task, reason)
        else:
            playable.append(task)
    each(plan.jobs, playable, record, recorded, abort_worlds)
    todo.sort(key=lambda pair: pair[0].index)
    each(plan.jobs, todo, lambda pair: (*pair, *_gate(pair[1], plan.runtimes)), gated, abort_worlds)
    return sorted(left_out, key=lambda left: left.task.index)


def _gate(scenario: Scenario, runtimes: Sequence[str]) -> tuple[str, str]:
    """Return why a scenario cannot stay, with what the gate found; empty where it can."""
    for runtime in runtimes:
        found = judge(scenario, runtime, Limits(command_seconds=SECONDS))
        if found:
            return UNSTEADY if runtime == runtimes[0] else DIFFERS, found
    return "", ""


def _unfit(outcome: Outcome, form: str) -> tuple[str, str]:
    """Return why an outcome cannot be judged by, with what was seen; empty where it can."""
    said = outcome.printed.strip()
    last = said.rpartition("\n")[2][:100]
    if outcome.status is None:
        return ENDLESS, last
    if (found := _ABSENT.search(said)) is not None:
        return MISSING, found[0]
    if _LACKS.search(said):
        return LACKING, last
    if (found := _DENIED.search(said)) is not None:
        return RIGHTS, last
    if len(outcome.printed.encode()) > Limits().output_bytes or "\0" in outcome.answer or "�" in outcome.printed:
        return LONG, ""
    printed = outcome.printed if form == "plain" else outcome.answer
    if not printed.strip() and not outcome.changes:
        return NOTHING, last
    return "", ""
