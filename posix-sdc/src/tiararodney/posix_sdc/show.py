"""A session as a terminal transcript, a scenario as a page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tiararodney.posix_sdc.schema import Scenario, Trajectory

_BOLD, _DIM, _RESET = "\033[1m", "\033[2m", "\033[0m"


def transcript(session: Trajectory, *, colour: bool = False) -> str:
    """Return a session as its terminal showed it; commands in bold where there is colour."""
    bold, dim, reset = (_BOLD, _DIM, _RESET) if colour else ("", "", "")
    parts = []
    for turn in session.turns:
        if turn.role == "system":
            parts.append(f"{dim}# {turn.content}{reset}\n")
        elif turn.role == "assistant":
            # The terminal shows what was typed; continued lines carry the shell's second prompt.
            parts.append(bold + "\n> ".join(turn.content.split("\n")) + reset + "\n")
        else:
            parts.append(turn.content)
    head = f"{session.id}  {session.archetype}  {session.outcome or 'unknown'}" + ("  kept" if session.keep else "")
    return f"{dim}## {head}{reset}\n" + "".join(parts)


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
    return "\n".join(lines) + "\n"
