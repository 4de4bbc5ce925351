"""A session as a terminal transcript, a scenario as a page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiararodney.posix_sdc.records.schema import Scenario, Trajectory

_BOLD, _DIM, _RESET = "\033[1m", "\033[2m", "\033[0m"
_MISTAKE = "  # not trained"
# C0 but newline and tab, DEL, C1, line separators, and what changes the direction of text.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


def transcript(session: Trajectory, *, colour: bool = False) -> str:
    """Return a session as its terminal showed it; commands in bold where there is colour.

    Control characters appear as symbols, so that a session cannot act on the reader's terminal; a command that is
    context and no target of training carries the comment ``# not trained``.
    """
    bold, dim, reset = (_BOLD, _DIM, _RESET) if colour else ("", "", "")
    parts = []
    for turn in session.turns:
        if turn.role == "system":
            parts.append(f"{dim}# {printable(turn.content)}{reset}\n")
        elif turn.role == "assistant":
            # The terminal shows what was typed; continued lines carry the shell's second prompt.
            typed = "\n> ".join(printable(turn.content).split("\n"))
            parts.append(f"{bold}{typed}{reset}" + ("" if turn.train else f"{dim}{_MISTAKE}{reset}") + "\n")
        else:
            parts.append(printable(turn.content))
    head = f"{session.id}  {session.archetype}  {session.outcome or 'unknown'}" + ("  kept" if session.keep else "")
    return f"{dim}## {printable(head)}{reset}\n" + "".join(parts)


def page(scenario: Scenario) -> str:
    """Return what a scenario says and wants, for a reader."""
    s = scenario
    lines = [
        f"## {s.id}  {s.archetype}  ends with {s.terminal}"
        + (f"  quarantined: {s.quarantine}" if s.quarantine else ""),
        f"announcement ({s.announcement.kind}): {s.announcement.text}",
        f"provider {s.provider.name} ({s.provider.kind}, {s.provider.documentation}): "
        + ", ".join(f"{k} = {v}" for k, v in s.provider.verbs.items()),
        *(f"directive {d.id}: {d.text}" for d in s.directives),
        *(f"fixture {f.path}" for f in s.fixtures),
        *(f"solution: {c}" for c in s.reference_solution),
        "checker:",
        *(f"    {line}" for line in s.checker.script.splitlines()),
    ]
    return printable("\n".join(lines)) + "\n"


def printable(text: str) -> str:
    """Replace control characters other than newline and tab by symbols for them."""
    return _UNPRINTABLE.sub(lambda found: _symbol(ord(found.group())), text)


def _symbol(code: int) -> str:
    if code < ord(" "):  # Unicode has a picture of each, in the order of the characters
        return chr(0x2400 + code)
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}"  # noqa: PLR2004 - one byte or more
