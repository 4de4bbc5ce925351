"""A task as a scenario, in one of two forms.

`plain`: the query is what login prints, and one command is run and judged. `citizen`: the query is a directive behind a
provider, what the command prints goes to a file, and the session ends itself.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tiararodney.posix_sdc.factory.announcements import announce
from tiararodney.posix_sdc.factory.intercode_alfa.outcome import ANSWER, BASH, any_order, checker
from tiararodney.posix_sdc.factory.intercode_alfa.package import NAME
from tiararodney.posix_sdc.factory.intercode_alfa.standup import world_of
from tiararodney.posix_sdc.factory.providers.design import make_provider
from tiararodney.posix_sdc.factory.providers.programs import Entry
from tiararodney.posix_sdc.factory.taxonomy import FULL, providers_of
from tiararodney.posix_sdc.factory.vocabulary import Draw
from tiararodney.posix_sdc.records.schema import DOCUMENTATION_KINDS, Announcement, Checker, Directive
from tiararodney.posix_sdc.worlds.shell import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.factory.intercode_alfa.outcome import Outcome
    from tiararodney.posix_sdc.factory.intercode_alfa.package import FileSystem, Package, Task
    from tiararodney.posix_sdc.records.schema import Fixture, Scenario, Split

FORMS = ("plain", "citizen")
JUDGED_BY = (
    "the difference of files and of the output between the gold command's world and the session's; the package's own "
    "grader runs in images of its own, which are built from a network"
)
_NOTICES = ("motd", "banner", "env")  # a file would lie in the folder that the tasks are about


def scenario_of(
    package: Package, task: Task, fixtures: Sequence[Fixture], outcome: Outcome, form: str, split: Split
) -> Scenario:
    """Return a task as a scenario.

    Args:
        package: that it comes from.
        task: what is asked for.
        fixtures: its file system.
        outcome: of its gold command.
        form: one of `FORMS`.
        split: of the scenario.
    """
    system = package.file_systems[task.file_system]
    source = {"package": NAME, "version": package.version, "licence": "MIT", "index": task.index}
    bare = replace(
        world_of(fixtures, system.variables),
        id=name_of(task, form),
        version=package.version,
        archetype=f"intercode_alfa_{task.file_system}",
        split=split,
        generator_model=NAME,
        extra={"source": source | {"difficulty": task.difficulty, "form": form}},
    )
    extra: dict[str, Any] = {"judged_by": JUDGED_BY, "changes": list(outcome.changes)}
    return _plain(bare, task, outcome, extra) if form == "plain" else _citizen(bare, task, system, outcome, extra)


def name_of(task: Task, form: str) -> str:
    """Return the id of a task's scenario."""
    return f"intercode-alfa-{form}-{task.index:03d}"


def _plain(bare: Scenario, task: Task, outcome: Outcome, extra: dict[str, Any]) -> Scenario:
    command = {"shell": BASH, "output": outcome.printed, "any_order": any_order(task.gold)}
    script = checker(outcome, answer=False, lines_in_any_order=False)
    return replace(
        bare,
        announcement=Announcement("motd", task.query),
        directives=(Directive(str(task.index), task.query),),
        checker=Checker(script, extra={**extra, "command": command}),
        reference_solution=(task.gold,),
    )


def _citizen(bare: Scenario, task: Task, system: FileSystem, outcome: Outcome, extra: dict[str, Any]) -> Scenario:
    draw = Draw(random.Random(bare.id))  # noqa: S311 - not for secrets
    prints = bool(outcome.answer.strip())
    stop = "" if task.query.endswith((".", "!", "?")) else "."
    text = f"{task.query}{stop} Write what that prints to {ANSWER}" if prints else task.query
    documentation, depth = draw.pick(DOCUMENTATION_KINDS), draw.weighted(FULL.depths)
    provider, directives = make_provider(
        draw, draw.pick(providers_of(FULL, "train")), documentation, depth, [Entry(text)]
    )
    announced = announce(draw, draw.pick(_NOTICES), provider, bare.workdir)
    gold = f"{BASH} -c {quoted(task.gold)}"
    return replace(
        bare,
        environment={**system.variables, **announced.environment},
        provider=provider,
        announcement=announced.announcement,
        directives=directives,
        fixtures=(*bare.fixtures, *announced.fixtures),
        checker=Checker(checker(outcome, answer=prints, lines_in_any_order=any_order(task.gold)), extra=extra),
        reference_solution=(f"{gold} >{ANSWER}" if prints else gold,),
    )
