"""Many sessions side by side: each on its own way, or in lock-step for an operator that replies to many at once."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tiararodney.posix_sdc.errors import InfrastructureError, UnplayableError
from tiararodney.posix_sdc.records.schema import Scenario, Trajectory
from tiararodney.posix_sdc.sessions.loop import (
    AHEAD,
    ATTEMPTS,
    Session,
    ahead_of,
    name_of,
    run_session,
    unplayed,
)
from tiararodney.posix_sdc.support.parallel import each
from tiararodney.posix_sdc.worlds.protocol import Limits, abort_worlds, close_worlds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tiararodney.posix_sdc.sessions.loop import BatchOperator, Operator, OperatorFactory

T = TypeVar("T")


def play(
    scenarios: Iterable[Scenario | tuple[Scenario, int]],
    operator: Operator | OperatorFactory,
    on_episode: Callable[[Trajectory], None],
    runtime: str = "auto",
    limits: Limits | None = None,
    max_turns: int | None = None,
    width: int = 16,
) -> None:
    """Play many sessions, each on its own way: no session waits for another one's reply or command.

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
        begun then, and what is under way is told to end.
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


def run_batch(
    scenarios: Sequence[Scenario],
    operator: BatchOperator,
    runtime: str = "auto",
    limits: Limits | None = None,
    max_turns: int | None = None,
    width: int = 16,
) -> Iterator[Trajectory]:
    """Play many sessions in lock-step: each round every live session gets its next reply from one call.

    A round waits for the slowest reply and command; `play` does not.

    Args:
        scenarios: the worlds.
        operator: who acts in all of them.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of time and memory of each; the defaults of `Limits` where None.
        max_turns: commands after which a session is stopped; `turn_limit` of its scenario where None.
        width: sessions that live at once; as one ends the next begins.

    Yields:
        Trajectories as they finish.
    """
    bounds, name = limits or Limits(), name_of(operator)
    waiting = deque((s, 1) for s in scenarios)
    live: dict[Session, int] = {}
    with (
        ThreadPoolExecutor(max_workers=min(width, 16)) as threads,
        ahead_of(scenarios, runtime, bounds, min(width, AHEAD)) as ahead,
        ExitStack() as leftovers,
    ):
        leftovers.callback(_close, live)

        def again(scenario: Scenario, attempt: int, fault: Exception) -> Iterator[Trajectory]:
            if isinstance(fault, UnplayableError):
                yield unplayed(scenario, name, "bad_bundle", str(fault))
            elif attempt < ATTEMPTS:
                waiting.append((scenario, attempt + 1))
            else:
                yield unplayed(scenario, name, "infrastructure", str(fault))

        while waiting or live:
            starting = [waiting.popleft() for _ in range(min(len(waiting), width - len(live)))]
            opened = threads.map(lambda job: _guarded(Session, job[0], runtime, bounds, max_turns, ahead), starting)
            for (scenario, attempt), begun in zip(starting, opened, strict=True):
                if isinstance(begun, Exception):
                    yield from again(scenario, attempt, begun)
                else:
                    live[begun] = attempt
            sessions = list(live)
            replies = operator.reply_batch([s.messages() for s in sessions]) if sessions else ()
            results = threads.map(lambda pair: _guarded(_step, *pair, name), zip(sessions, replies, strict=True))
            for session, result in zip(sessions, results, strict=True):
                if result is None:
                    continue
                attempt = live.pop(session)
                if isinstance(result, Exception):
                    yield from again(session.scenario, attempt, result)
                else:
                    yield result


def _guarded(action: Callable[..., T], *arguments: Any) -> T | InfrastructureError | UnplayableError:
    try:
        return action(*arguments)
    except (InfrastructureError, UnplayableError) as error:
        return error


def _close(sessions: Iterable[Session]) -> None:
    for session in sessions:
        session.stack.close()


def _step(session: Session, reply: str, name: str) -> Trajectory | None:
    """Run one reply; return the trajectory, the world closed, when the session is over."""
    try:
        if not session.act(reply):
            return None
        trajectory = session.verdict(name)
    except InfrastructureError:
        session.stack.close()
        raise
    session.stack.close()
    return trajectory
