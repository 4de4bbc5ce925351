"""What a verdict is made of besides the world's state: which checks hold, and whether giving up was justified.

A session that ends with ``panic`` proves nothing by the state it leaves: doing nothing leaves it too. So it has to have
seen the directive that cannot be done, and its reason has to name the cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.worlds.protocol import Check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tiararodney.posix_sdc.records.schema import Scenario, Turn

REASON, READ = "the reason names the cause", "the directive was read"
_LONGEST = 300  # letters of a reason: one that lists every trouble there is names none


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
