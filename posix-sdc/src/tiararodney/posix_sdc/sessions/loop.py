"""The session loop: one for recording, evaluation and the gate.

scenario -> opening -> (reply -> command -> observation)* -> exit | panic -> checker -> Trajectory
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, Protocol, TypeVar

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.records.schema import Scenario, Trajectory, Turn
from tiararodney.posix_sdc.worlds.prefetch import Ahead
from tiararodney.posix_sdc.worlds.protocol import CommandResult, Limits, World, open_world

PROMPT = "$ "
MAX_TURNS = 30
_AHEAD = 4  # worlds that open while replies are being made
ATTEMPTS = 3  # a session that a fault of ours spoilt is played twice more before it is reported
OUTCOMES = ("success", "wrong_terminal", "unverified", "unclean", "turn_limit", "died", "infrastructure")

Message = Mapping[str, str]
T = TypeVar("T")


class Operator(Protocol):
    """Whoever acts in a session: gets the turns so far, gives the next reply."""

    def reply(self, messages: Sequence[Message]) -> str:
        """Return the next assistant turn."""
        ...


class BatchOperator(Protocol):
    """Whoever acts in many sessions at once."""

    def reply_batch(self, conversations: Sequence[Sequence[Message]]) -> Sequence[str]:
        """Return the next assistant turn of every conversation, in their order."""
        ...


def orientation() -> str:
    """Return the system turn: facts about the terminal, no imperative, no task."""
    return (
        "A terminal on a POSIX system. The shell is sh; every reply is run as one command. "
        "`exit` ends the session when the work is done, `panic REASON` when it cannot be done."
    )


def opening(scenario: Scenario) -> list[Turn]:
    """Return the turns before the operator's first: the orientation, what login prints, the prompt."""
    said = scenario.announcement
    login = said.text.rstrip("\n") + "\n" if said.kind in ("motd", "banner") and said.text.strip() else ""
    return [Turn("system", orientation()), Turn("user", login + PROMPT)]


def observation(result: CommandResult) -> str:
    """Return the user turn that shows a command's result: its output, then the prompt on a line of its own."""
    output = result.output
    return output + ("\n" if output and not output.endswith("\n") else "") + PROMPT


# ----------------------------------------------------------------------------------------------------------- prose

_FENCE = re.compile(r"^\s*```", re.MULTILINE)
_SENTENCE = re.compile(r"[A-Z][a-z']*[,:]?$|I'[a-z]+$")
_SYNTAX = set("|&;<>$=`\\/{}[]*~")
_NOT_FOUND, _SYNTAX_ERROR = 127, 2
_MANY_WORDS = 5


def is_prose(command: str, result: CommandResult) -> bool:
    """Tell whether a reply was words for a reader rather than a command for the shell.

    An empty reply is prose, and so is a code fence. Anything else is prose only if the shell could not run it and
    a line of it reads like a sentence: a mistyped command is a command.

    Args:
        command: the reply.
        result: what the world made of it.
    """
    if not command.strip() or _FENCE.search(command):
        return True
    for line in command.splitlines():
        words = line.split()
        if not words:
            continue
        refused = result.status in (_NOT_FOUND, _SYNTAX_ERROR) or f"{words[0]}: not found" in result.output
        plain = line.rstrip()[-1] in ".?!:" or not _SYNTAX & set(line)
        reads = plain and len(words) > 1 and (bool(_SENTENCE.match(words[0])) or len(words) >= _MANY_WORDS)
        if refused and reads:
            return True
    return False


# --------------------------------------------------------------------------------------------------------- session


class _Session:
    """One session under way: its world, its turns and what is known of them."""

    def __init__(
        self, scenario: Scenario, runtime: str, limits: Limits, max_turns: int, ahead: Ahead | None = None
    ) -> None:
        self.scenario, self.limits, self.max_turns = scenario, limits, max_turns
        self.turns = opening(scenario)
        self.prose: list[int] = []
        self.commands = 0
        self.ended = ""
        self.stack = ExitStack()
        opened = ahead.world(scenario) if ahead else open_world(scenario, runtime=runtime, limits=limits)
        self.world: World = self.stack.enter_context(opened)
        self.started = time.monotonic()

    def messages(self) -> list[dict[str, str]]:
        return [{"role": t.role, "content": t.content} for t in self.turns]

    def act(self, reply: str) -> bool:
        """Run a reply; return true when the session is over."""
        self.commands += 1
        result = self.world.run(reply) if reply.strip() else CommandResult("", 0, None)
        self.turns.append(Turn("assistant", reply))
        if result.ended is None and is_prose(reply, result):
            self.prose.append(self.commands)
        if result.ended is not None:
            self.ended = result.ended
        elif self.commands >= self.max_turns:
            self.ended = "turn_limit"
        elif time.monotonic() - self.started > self.limits.session_seconds:
            self.ended = "time_limit"
        else:
            self.turns.append(Turn("user", observation(result)))
        return bool(self.ended)

    def verdict(self, name: str) -> Trajectory:
        """Check the world and write the session down."""
        verdict = self.world.check()
        clean = not self.prose
        meta = {
            "clean": clean,
            "ended": self.ended,
            "commands": self.commands,
            "prose_turns": self.prose,
            "runtime": self.world.runtime,
            "detail": verdict.detail,
        }
        return _record(
            self.scenario,
            name,
            self.turns,
            _outcome(self.scenario, self.ended, verdict.passed, clean),
            verdict.passed,
            meta,
        )


def _outcome(scenario: Scenario, ended: str, verified: bool, clean: bool) -> str:
    if ended in ("turn_limit", "time_limit"):
        return "turn_limit"
    if ended not in ("exit", "panic"):
        return "died"
    if ended != scenario.terminal:
        return "wrong_terminal"
    if not verified:
        return "unverified"
    return "success" if clean else "unclean"


def _record(
    scenario: Scenario, name: str, turns: Sequence[Turn], outcome: str, verified: bool, meta: dict[str, Any]
) -> Trajectory:
    return Trajectory(
        id=f"{scenario.id}-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-')}",
        scenario_id=scenario.id,
        version=scenario.version,
        archetype=scenario.archetype,
        terminal=scenario.terminal,
        split=scenario.split,
        verified=verified,
        outcome=outcome,
        operator_model=name,
        keep=outcome == "success",
        steps=sum(t.role == "assistant" for t in turns),
        meta=meta,
        turns=tuple(turns),
    )


def _infrastructure(scenario: Scenario, name: str, reason: str) -> Trajectory:
    meta = {
        "clean": False,
        "ended": "infrastructure",
        "commands": 0,
        "prose_turns": [],
        "runtime": "",
        "reason": reason,
    }
    return _record(scenario, name, opening(scenario), "infrastructure", verified=False, meta=meta)


def name_of(operator: object) -> str:
    """Return what an operator is called in a record: its ``name``, else its class."""
    return str(getattr(operator, "name", "") or type(operator).__name__)


def ahead_of(scenarios: Iterable[Scenario], runtime: str, limits: Limits | None, width: int = _AHEAD) -> Ahead:
    """Return what opens the worlds of the next scenarios while sessions run, for `run_session`.

    Args:
        scenarios: in the order in which they will be played.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of each world; the defaults of `Limits` where None.
        width: worlds to be open beyond those in use.
    """
    return Ahead(lambda scenario: open_world(scenario, runtime=runtime, limits=limits or Limits()), scenarios, width)


def run_session(
    scenario: Scenario,
    operator: Operator,
    runtime: str = "auto",
    limits: Limits | None = None,
    max_turns: int = MAX_TURNS,
    ahead: Ahead | None = None,
) -> Trajectory:
    """Play one session and judge it.

    Args:
        scenario: the world.
        operator: who acts; one with a method ``reset()`` is reset before each attempt.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of time and memory; the defaults of `Limits` where None.
        max_turns: commands after which the session is stopped.
        ahead: where worlds are open already (see `ahead_of`); it decides their runtime and limits then.

    Returns:
        The trajectory. A fault of ours is retried, then recorded with the outcome ``infrastructure``; never raised.
    """
    name, reason = name_of(operator), ""
    for _ in range(ATTEMPTS):
        reset = getattr(operator, "reset", None)
        if callable(reset):
            reset()
        try:
            session = _Session(scenario, runtime, limits or Limits(), max_turns, ahead)
            with session.stack:
                while not session.act(operator.reply(session.messages())):
                    pass
                return session.verdict(name)
        except InfrastructureError as error:
            reason = str(error)
    return _infrastructure(scenario, name, reason)


def run_batch(
    scenarios: Sequence[Scenario],
    operator: BatchOperator,
    runtime: str = "auto",
    limits: Limits | None = None,
    max_turns: int = MAX_TURNS,
    width: int = 16,
) -> Iterator[Trajectory]:
    """Play many sessions in lock-step: each round every live session gets its next reply from one call.

    Args:
        scenarios: the worlds.
        operator: who acts in all of them.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of time and memory of each; the defaults of `Limits` where None.
        max_turns: commands after which a session is stopped.
        width: sessions that live at once; as one ends the next begins.

    Yields:
        Trajectories as they finish.
    """
    bounds, name = limits or Limits(), name_of(operator)
    waiting = deque((s, 1) for s in scenarios)
    live: dict[_Session, int] = {}
    with (
        ThreadPoolExecutor(max_workers=min(width, 16)) as threads,
        ahead_of(scenarios, runtime, bounds, min(width, _AHEAD)) as ahead,
        ExitStack() as leftovers,
    ):
        leftovers.callback(_close, live)

        def again(scenario: Scenario, attempt: int, fault: InfrastructureError) -> Iterator[Trajectory]:
            if attempt < ATTEMPTS:
                waiting.append((scenario, attempt + 1))
            else:
                yield _infrastructure(scenario, name, str(fault))

        while waiting or live:
            starting = [waiting.popleft() for _ in range(min(len(waiting), width - len(live)))]
            opened = threads.map(lambda job: _guarded(_Session, job[0], runtime, bounds, max_turns, ahead), starting)
            for (scenario, attempt), begun in zip(starting, opened, strict=True):
                if isinstance(begun, InfrastructureError):
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
                if isinstance(result, InfrastructureError):
                    yield from again(session.scenario, attempt, result)
                else:
                    yield result


def _guarded(action: Callable[..., T], *arguments: Any) -> T | InfrastructureError:
    try:
        return action(*arguments)
    except InfrastructureError as error:
        return error


def _close(sessions: Iterable[_Session]) -> None:
    for session in sessions:
        session.stack.close()


def _step(session: _Session, reply: str, name: str) -> Trajectory | None:
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
