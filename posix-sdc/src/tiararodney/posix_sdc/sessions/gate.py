"""The gate: a scenario is fit for use if its checker separates right from wrong solutions in a real world."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError, UnplayableError
from tiararodney.posix_sdc.sessions.checkers import unfit
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.protocol import Limits


def judge(scenario: Scenario, runtime: str = "auto", limits: Limits | None = None, *, near_misses: bool = False) -> str:
    """Return why a scenario is not fit for use, empty when it is.

    Its checker looks at files and runs nothing (see `checkers`). The reference solution and the right terminal must
    succeed, in a panic world once the directives have been read; the same terminal at once must not.

    Args:
        scenario: the bundle.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of time and memory.
        near_misses: also play every near miss the bundle names; the checker must fail on each.

    Raises:
        InfrastructureError: the world failed for a reason of ours, so nothing is known of the scenario.
    """

    def play(commands: Sequence[str], terminal: str) -> tuple[str, str]:
        operator = ScriptedOperator([*commands, terminal], name="gate")
        played = run_session(scenario, operator, runtime, limits, max_turns=len(commands) + 1)
        if played.outcome == "bad_bundle":
            raise UnplayableError(str(played.meta.get("reason", "")))
        if played.outcome == "infrastructure":
            raise InfrastructureError(str(played.meta.get("reason", "")))
        return played.outcome, str(played.meta.get("detail", ""))

    try:
        return _finding(scenario, play, near_misses=near_misses)
    except UnplayableError as error:
        return str(error)


def _finding(scenario: Scenario, play: Callable[[Sequence[str], str], tuple[str, str]], *, near_misses: bool) -> str:
    found = unfit(scenario.checker)
    if found:
        return found
    ending, before = "exit", []
    if scenario.terminal == "panic":
        ending, before = f"panic {_reason(scenario)}", handing_out(scenario)
    outcome, detail = play([*before, *scenario.reference_solution], ending)
    if outcome != "success":
        return f"the reference solution ends as {outcome!r}" + (f" ({detail})" if detail else "")
    # A session that ends the wrong way is never a success, whatever its checker says: an immediate panic in a solvable
    # world and an immediate exit in a panic world need no world to be judged. What is left is doing nothing.
    if play((), ending)[0] == "success":
        return f"an immediate {scenario.terminal} succeeds"
    named = scenario.checker.extra.get("near_misses") or scenario.extra.get("near_misses", [])
    for commands in named if near_misses else []:
        if play([*before, *commands], ending)[0] == "success":
            return f"the checker passes on the near miss {commands}"
    return ""


def _reason(scenario: Scenario) -> str:
    """Return the reason that a bundle gives for its panic, as one word of the shell."""
    works = [work for d in scenario.directives for work in (*d.extra.get("works", ()), d.extra)]
    said = next((str(work["reason"]) for work in works if isinstance(work, Mapping) and work.get("reason")), "gate")
    return shlex.quote(said)


def handing_out(scenario: Scenario) -> list[str]:
    """Return the commands that make the provider hand out its directives, as far as the bundle states them."""
    verbs = scenario.provider.verbs
    out = [verbs[step] for step in ("begin", "queues", "list", "more") if step in verbs]
    for directive in scenario.directives if "show" in verbs else ():
        place = f"/var/spool/{scenario.provider.name}/{directive.id}"
        for call in [verbs[step] for step in ("claim", "show") if step in verbs]:
            known = "{id}" in call or "{path}" in call or "list" not in verbs
            out.append(
                call.replace("{id}", directive.id).replace("{path}", place) if known else f"{call} {directive.id}"
            )
    return list(dict.fromkeys(out))
