"""Many sessions in parallel, each independent of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tiararodney.posix_sdc.records.schema import Scenario, Trajectory
from tiararodney.posix_sdc.sessions.loop import AHEAD, ahead_of, run_session
from tiararodney.posix_sdc.support.parallel import each
from tiararodney.posix_sdc.worlds.protocol import Limits, abort_worlds, close_worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tiararodney.posix_sdc.sessions.loop import Operator, OperatorFactory


def play(
    scenarios: Iterable[Scenario | tuple[Scenario, int]],
    operator: Operator | OperatorFactory,
    on_episode: Callable[[Trajectory], None],
    runtime: str = "auto",
    limits: Limits | None = None,
    max_turns: int | None = None,
    width: int = 16,
) -> None:
    """Play many independent sessions: none waits for another one's reply or command.

    Each session has a thread, which calls the operator's `reply` as soon as its last command has answered. `reply` may
    block as long as it likes, so an operator that serves many sessions gathers calls itself: a client of a server that
    batches sends its request and waits; one with a model in this process puts the conversation into a queue and waits
    for its answer, and a loop of its own takes from the queue whatever waits at each step.

        play(scenarios, operator, episodes.append, width=256)

    Args:
        scenarios: the worlds, in order; one that is played several times as pairs of it and the sample's number.
        operator: one that all sessions share, its `reply` safe to be called by `width` threads at once; or a function
            that returns one for a scenario and a sample, called in the session's thread.
        on_episode: given each trajectory as it finishes, in the caller's thread, one at a time.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of time and memory of each; the defaults of `Limits` where None.
        max_turns: commands after which a session is stopped; `turn_limit` of its scenario where None.
        width: sessions that live at once; as one ends the next begins.

    Raises:
        Whatever the operator or `on_episode` raises but `InfrastructureError` and `UnplayableError`: nothing new is
        started then, and sessions in progress are stopped.
    """
    todo = [(job, 0) if isinstance(job, Scenario) else job for job in scenarios]
    shared = hasattr(operator, "reply")
    with ahead_of([s for s, _ in todo], runtime, limits, min(width, AHEAD)) as ahead:

        def one(job: tuple[Scenario, int]) -> Trajectory:
            actor = cast("Operator", operator) if shared else cast("OperatorFactory", operator)(*job)
            return run_session(job[0], actor, runtime, limits, max_turns, ahead, job[1])

        try:
            each(width, todo, one, on_episode, abort_worlds)
        except BaseException:
            close_worlds()  # which lets this process open worlds again
            raise
