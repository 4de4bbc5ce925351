"""The gate: a scenario is fit for use when its own checker tells right from wrong in a real world."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tiararodney.posix_sdc.errors import InfrastructureError, UnplayableError
from tiararodney.posix_sdc.sessions.loop import run_session
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tiararodney.posix_sdc.records.schema import Scenario
    from tiararodney.posix_sdc.worlds.protocol import Limits

_GIVEN_UP = "panic gate"


def judge(scenario: Scenario, runtime: str = "auto", limits: Limits | None = None, *, near_misses: bool = False) -> str:
    """Return why a scenario is not fit for use, empty when it is.

    The reference solution and the right terminal must succeed, an immediate ``exit`` must not, nor an immediate
    ``panic`` unless the scenario is a panic world.

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
    ending = "exit" if scenario.terminal == "exit" else _GIVEN_UP
    outcome, detail = play(scenario.reference_solution, ending)
    if outcome != "success":
        return f"the reference solution ends as {outcome!r}" + (f" ({detail})" if detail else "")
    # A session that ends the wrong way is never a success, whatever its checker says: an immediate panic in a solvable
    # world and an immediate exit in a panic world need no world to be judged. What is left is the untouched world.
    if scenario.terminal == "exit" and play((), "exit")[0] == "success":
        return "an immediate exit succeeds"
    named = scenario.checker.extra.get("near_misses") or scenario.extra.get("near_misses", [])
    for commands in named if near_misses else []:
        if play(commands, ending)[0] == "success":
            return f"the checker passes on the near miss {commands}"
    return ""
