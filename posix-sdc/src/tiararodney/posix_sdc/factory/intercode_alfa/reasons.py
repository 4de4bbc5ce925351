"""Why a task is left out: a closed set."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.factory.intercode_alfa.standup import SYSTEM
from tiararodney.posix_sdc.worlds.protocol import Limits

if TYPE_CHECKING:
    from tiararodney.posix_sdc.factory.intercode_alfa.outcome import Outcome


class Reason(StrEnum):
    """Why a task is no scenario here."""

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
    UNTOLD = "its gold command uses a name that nothing tells"
    DIFFERS = "its gold command does something else in the other runtime"


# Programs of a gold command stand at its beginning, or behind what begins a command.
_BEGINS = r"(?:^|[|;&(`]\s*|\bxargs\s+)"
_NETWORK = r"curl|wget|dig|nslookup|ping|ifconfig|route|netstat|hostname\s+-[iI]"
_CHANGES = r"date|uptime|w|who|free|vmstat|ps|pstree|df|lsof|top|last|time|cal\s+-\d$"
_OF_COMMAND = {
    Reason.NETWORK: re.compile(rf"{_BEGINS}({_NETWORK})\b"),
    Reason.CHANGES: re.compile(rf"{_BEGINS}({_CHANGES})([\s|)]|$)|\$\$"),
    Reason.RECENT: re.compile(r"-[acm](time|min)\s+-\d"),
}
_ABSENT = re.compile(r"[\w./-]+: command not found")
_LACKS = re.compile(rf"/({'|'.join(map(re.escape, SYSTEM))})/[^\s:]*: No such file or directory")
_DENIED = re.compile(
    r"Permission denied|Operation not permitted|Read-only file system|superuser|must be (run as )?root"
)


def of_command(gold: str) -> Reason | None:
    """Return why a gold command cannot be played, as far as its text tells; None where it can."""
    return next((reason for reason, pattern in _OF_COMMAND.items() if pattern.search(gold)), None)


def of_outcome(outcome: Outcome, form: str) -> tuple[Reason | None, str]:
    """Return why nothing can be judged by an outcome, with what was seen; None where it can.

    Args:
        outcome: of a task's gold command.
        form: of the scenario to be, ``plain`` or ``citizen``.
    """
    said = outcome.printed.strip()
    last = said.rpartition("\n")[2][:100]
    if outcome.status is None:
        return Reason.ENDLESS, last
    if (found := _ABSENT.search(said)) is not None:
        return Reason.MISSING, found[0]
    if _LACKS.search(said):
        return Reason.LACKING, last
    if (found := _DENIED.search(said)) is not None:
        return Reason.RIGHTS, last
    if len(outcome.printed.encode()) > Limits().output_bytes or "\0" in outcome.answer or "�" in outcome.printed:
        return Reason.LONG, ""
    printed = outcome.printed if form == "plain" else outcome.answer
    if not printed.strip() and not outcome.changes:
        return Reason.NOTHING, last
    return None, ""
