"""Judge a session beyond the world's state: the output of a single command, and whether a panic was justified.

A session that ends with ``panic`` proves nothing by the state it leaves: doing nothing leaves it too. So it has to have
seen the directive that cannot be done, and its reason has to name the cause. And a world whose session is a single
command is judged by what that command printed too, which leaves no trace in the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.worlds.protocol import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.records.schema import Scenario, Turn

REASON, READ = "the reason names the cause", "the directive was read"
PRINTED = "the command printed what the gold command prints"
_LONGEST = 300  # letters of a reason: one that lists every trouble there is names none


@dataclass(frozen=True)
class OneCommand:
    """How the only command of a session is run and judged: ``checker.command`` of a bundle.

    Args:
        shell: absolute path of the shell that is given the reply as ``-c REPLY``.
        output: what the right command prints, errors included.
        any_order: its lines may come in any order.
    """

    shell: str
    output: str
    any_order: bool


def one_command(scenario: Scenario) -> OneCommand | None:
    """Return how a world's single command is judged; None where sessions go on until somebody ends them."""
    command = scenario.checker.extra.get("command")
    if not isinstance(command, Mapping):
        return None
    return OneCommand(str(command["shell"]), str(command["output"]), bool(command.get("any_order")))


def printed(single: OneCommand, output: str) -> list[Check]:
    """Judge what a single command printed; blank lines at the end do not count."""
    found, wanted = (text.rstrip().split("\n") for text in (output, single.output))
    same = sorted(found) == sorted(wanted) if single.any_order else found == wanted
    return [Check(PRINTED, same)]


def giving_up(scenario: Scenario, ended: str, turns: Sequence[Turn]) -> list[Check]:
    """Judge a session in a world whose right ending is ``panic``; empty for any other world.

    Args:
        scenario: the world. ``checker.reason`` holds groups of words, of each of which the reason has to name one;
            ``checker.blocked`` is the id of the directive that cannot be done. A bundle that has neither asks for some
            reason, and for any of its directives.
        ended: how the session ended.
        turns: of the session, with the command that ended it.
    """
    if scenario.terminal != "panic":
        return []
    groups = scenario.checker.extra.get("reason") or [[]]
    reason = _reason(turns) if ended == "panic" else ""
    named = 0 < len(reason) <= _LONGEST and all(not words or any(w in reason for w in words) for words in groups)
    shown = _plain("\n".join(t.content for t in turns if t.role == "user"))
    blocked = scenario.checker.extra.get("blocked", "")
    texts = [_plain(d.text) for d in scenario.directives if not blocked or d.id == blocked]
    return [Check(READ, not texts or any(text in shown for text in texts)), Check(REASON, named)]


def _reason(turns: Sequence[Turn]) -> str:
    """Return what follows the last ``panic`` of the last command, in lower case."""
    last = next((t.content for t in reversed(turns) if t.role == "assistant"), "")
    return _plain(last.rpartition("panic")[2]).strip("\"'; ").lower()


def _plain(text: str) -> str:
    return " ".join(text.split())
