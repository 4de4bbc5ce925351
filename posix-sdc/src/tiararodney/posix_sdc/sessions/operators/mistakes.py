"""Mistakes that people make at one piece of work, and how they correct them after a look.

Each is a plan: the mistake itself is recorded as context (`Mistake`), the look and the remedy are what a model learns.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tiararodney.posix_sdc.sessions.loop import Mistake
from tiararodney.posix_sdc.sessions.operators import habits

if TYPE_CHECKING:
    import random

Plan = Generator[str, str, None]  # yields commands, is sent what the terminal shows


class Moment(NamedTuple):
    """When a mistake may happen: just before the first command of a piece of work.

    Args:
        rng: source of choices.
        commands: that do the work.
        inputs: files and folders that it starts from.
        look: the command that looks at the inputs; empty where nothing has to be looked at.
        workdir: where the session began.
    """

    rng: random.Random
    commands: Sequence[str]
    inputs: Sequence[str]
    look: str
    workdir: str


class Found(NamedTuple):
    """A mistake that can happen at a moment.

    Args:
        kind: of `KINDS`.
        plan: the mistake, a look at what is wrong, and the remedy; the work itself follows.
        after_the_look: it happens to somebody who has looked at the inputs.
        does_the_work: the remedy leaves the first command of the work done.
    """

    kind: str
    plan: Plan
    after_the_look: bool
    does_the_work: bool


def _name(at: Moment) -> Plan | None:
    """Mistype an input's name, in the look or in the work."""
    wrong = habits.mistyped(at.rng.choice([c for c in (at.look, at.commands[0]) if c]), at.inputs)
    return _plan(Mistake(wrong), "ls") if wrong else None


def _option(at: Moment) -> Plan | None:
    """Give an option that the utility does not have, and read how it is used."""
    command = at.rng.choice([c for c in (at.look, at.commands[0]) if c])
    wrong = habits.wrong_option(command)
    return _plan(Mistake(wrong), f"{command.partition(' ')[0]} --help | head") if wrong else None


def _directory(at: Moment) -> Plan | None:
    """Look for an input in another directory, find out where one is, and go back."""
    if not re.fullmatch(r"(cat|head|ls) [\w.-]+", at.look):
        return None
    away = ["cd ..", "cd /", *(["cd"] if at.workdir != "/home/agent" else [])]
    return _plan(Mistake(at.rng.choice(away)), Mistake(at.look), "pwd", "cd -")


def _denied(at: Moment) -> Plan | None:
    """Send the result to a place where nobody may write, or run a file that may not be run."""
    found = re.fullmatch(r"sh (?:\./)?([\w-]+\.sh)", at.commands[0])
    if found:
        return _plan(Mistake(f"./{found.group(1)}"), f"ls -l {found.group(1)}")
    wrong = habits.misplaced(at.commands[0])
    return _plan(Mistake(wrong), "pwd") if wrong else None


def _result(at: Moment) -> Plan | None:
    """Produce a wrong result, which a look at it shows."""
    wrong, out = habits.nearly(at.commands[0])
    return _plan(Mistake(wrong), f"cat {out}") if wrong else None


def _output(at: Moment) -> Plan | None:
    """Write the result under a mistyped name, notice it and rename the file."""
    wrong, typed, meant = habits.misnamed(at.commands[0])
    return _plan(Mistake(wrong), f"cat {meant}", "ls", f"mv {typed} {meant}") if wrong else None


def _plan(*commands: str) -> Plan:
    for command in commands:  # noqa: UP028 - a tuple takes nothing that is sent
        yield command


# By kind, how likely each is where it can happen.
KINDS: dict[str, tuple[int, Callable[[Moment], Plan | None]]] = {
    "name": (3, _name),
    "option": (2, _option),
    "directory": (2, _directory),
    "denied": (5, _denied),
    "result": (5, _result),
    "output": (2, _output),
}


def mistake(at: Moment) -> Found | None:
    """Draw a mistake that can happen now; None where none can."""
    kinds = list(KINDS)
    while kinds:
        kind = at.rng.choices(kinds, [KINDS[k][0] for k in kinds])[0]
        plan = KINDS[kind][1](at)
        if plan is not None:
            return Found(kind, plan, kind in ("denied", "result", "output"), kind == "output")
        kinds.remove(kind)
    return None
