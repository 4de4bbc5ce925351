"""The whole import: each task's gold command is played, its scenario is gated, and what cannot be had is left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.intercode_alfa.bundle import scenario_of
from tiararodney.posix_sdc.factory.intercode_alfa.outcome import SECONDS, play
from tiararodney.posix_sdc.factory.intercode_alfa.reasons import Reason, of_command, of_outcome
from tiararodney.posix_sdc.factory.intercode_alfa.standup import stand_up, world_of
from tiararodney.posix_sdc.sessions.gate import judge
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator
from tiararodney.posix_sdc.support.parallel import each
from tiararodney.posix_sdc.worlds.protocol import Limits, abort_worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.factory.intercode_alfa.outcome import Outcome
    from tiararodney.posix_sdc.factory.intercode_alfa.package import Package, Task
    from tiararodney.posix_sdc.records.schema import Scenario, Split


@dataclass(frozen=True)
class LeftOut:
    """A task that is no scenario here.

    Args:
        task: which.
        reason: why.
        detail: what was seen, empty where the reason says it all.
    """

    task: Task
    reason: Reason
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
        step: called with ``made`` or ``left out`` for each task.

    Returns:
        The tasks that were left out, by index.

    Raises:
        InfrastructureError: a world failed.
    """
    left_out: list[LeftOut] = []
    todo: list[tuple[Task, Scenario]] = []

    def leave(task: Task, reason: Reason, detail: str = "") -> None:
        left_out.append(LeftOut(task, reason, detail))
        step("left out")

    systems = plan.package.file_systems
    fixtures = {number: stand_up(system, plan.runtimes[0]) for number, system in systems.items()}

    def record(task: Task) -> tuple[Task, Outcome]:
        world = world_of(fixtures[task.file_system], systems[task.file_system].variables)
        return task, play(world, task.gold, plan.runtimes[0])

    def recorded(result: tuple[Task, Outcome]) -> None:
        task, outcome = result
        reason, detail = of_outcome(outcome, plan.form)
        if reason:
            leave(task, reason, detail)
        else:
            files = fixtures[task.file_system]
            todo.append((task, scenario_of(plan.package, task, files, outcome, plan.form, plan.split)))

    def gated(result: tuple[Task, Scenario, Reason | None, str]) -> None:
        task, scenario, reason, detail = result
        if reason:
            leave(task, reason, detail)
        else:
            keep(scenario)
            step("made")

    playable: list[Task] = []
    for task in plan.package.tasks:
        reason = of_command(task.gold)
        if reason:
            leave(task, reason)
        else:
            playable.append(task)
    each(plan.jobs, playable, record, recorded, abort_worlds)
    todo.sort(key=lambda pair: pair[0].index)
    each(plan.jobs, todo, lambda pair: (*pair, *_gate(pair[1], plan.runtimes)), gated, abort_worlds)
    return sorted(left_out, key=lambda left: left.task.index)


def _gate(scenario: Scenario, runtimes: Sequence[str]) -> tuple[Reason | None, str]:
    """Return why a scenario cannot stay, with what the gate found; None where it can."""
    for runtime in runtimes:
        found = judge(scenario, runtime, Limits(command_seconds=SECONDS))
        if found:
            return Reason.UNSTEADY if runtime == runtimes[0] else Reason.DIFFERS, found
    played = run_session(scenario, ReferenceOperator(scenario), runtimes[0])
    if played.outcome == "bad_bundle":
        return Reason.UNTOLD, str(played.meta["reason"])
    return None, ""
