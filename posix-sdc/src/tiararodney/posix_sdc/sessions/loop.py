"""The session loop: one for recording, evaluation and the gate.

scenario -> opening -> (reply -> command -> observation)* -> exit | panic -> checker -> Trajectory
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

from tiararodney.posix_sdc.errors import InfrastructureError, SchemaError, UnplayableError
from tiararodney.posix_sdc.records.schema import Message, Scenario, Trajectory, Turn
from tiararodney.posix_sdc.sessions.judgement import OneCommand, giving_up, one_command, printed
from tiararodney.posix_sdc.sessions.prose import is_prose
from tiararodney.posix_sdc.worlds.prefetch import Ahead
from tiararodney.posix_sdc.worlds.protocol import CommandResult, Limits, World, open_world
from tiararodney.posix_sdc.worlds.shell import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
from tiararodney.posix_sdc.worlds.versions import made_of

PROMPT = "$ "
AHEAD = 4  # worlds that open while replies are being made
ATTEMPTS = 3  # a session that a fault of ours spoilt is played twice more before it is reported
OUTCOMES = (
    "success",
    "wrong_terminal",
    "unverified",
    "unclean",
    "turn_limit",
    "died",
    "bad_bundle",
    "infrastructure",
)


class Operator(Protocol):
    """The actor of a session: takes the turns so far and returns the next reply."""

    def reply(self, messages: Sequence[Message]) -> str:
        """Return the next assistant turn."""
        ...


class Mistake(str):
    """A reply that is recorded as context and is not a training target."""

    __slots__ = ()


OperatorFactory = Callable[[Scenario, int], Operator]  # of a scenario and a sample


def orientation(single: OneCommand | None = None) -> str:
    """Return the system turn: facts about the terminal, no imperative, no task.

    Args:
        single: how the one command of a session is run that has no more.
    """
    if single is not None:
        shell = single.shell.rpartition("/")[2]
        return f"A terminal on a POSIX system. The shell is {shell}; the reply is run as one command."
    return (
        "A terminal on a POSIX system. The shell is sh; every reply is run as one command. "
        "`exit` ends the session when the work is done, `panic REASON` when it cannot be done."
    )


def opening(scenario: Scenario) -> list[Turn]:
    """Return the turns before the operator's first: the orientation, what login prints, the prompt."""
    said = scenario.announcement
    login = said.text.rstrip("\n") + "\n" if said.kind in ("motd", "banner") and said.text.strip() else ""
    return [Turn("system", orientation(one_command(scenario))), Turn("user", login + PROMPT)]


def observation(result: CommandResult) -> str:
    """Return the user turn that shows a command's result: its output, then the prompt on a separate line."""
    output = result.output
    return output + ("\n" if output and not output.endswith("\n") else "") + PROMPT


def turn_limit(scenario: Scenario) -> int:
    """Return how many commands a session may take: twice what the bundle asks for, and ten more.

    A piece of work counts its commands, three looks before and after it, and each step that learns how an unknown
    program is used. Where a bundle does not tell its pieces, each directive counts as one, and the commands are those
    of the reference solution.
    """
    verbs, directives = scenario.provider.verbs, scenario.directives
    works = [w for d in directives for w in d.extra.get("works", ()) if isinstance(w, Mapping)]
    commands = sum(len(w.get("solution", ())) + len(w.get("learn", ())) for w in works)
    commands = commands if works else len(scenario.reference_solution)
    said = scenario.announcement.extra
    finding = 4 + len(said.get("chain", ())) + len(said.get("leads", ()))
    reading = 3 + sum(step in verbs for step in ("begin", "queues", "list", "more"))
    retrieving = max(len(directives), 1) * max(1, sum(step in verbs for step in ("claim", "show", "done")))
    recovering = 3
    return 2 * (finding + reading + retrieving + commands + 3 * len(works or directives) + recovering + 1) + 10


def session_id(scenario: Scenario, operator: str, sample: int = 0) -> str:
    """Return the id of a session: its scenario, its operator's name and its sample."""
    return f"{scenario.id}__{re.sub(r'[^A-Za-z0-9.]+', '-', operator).strip('-')}__{sample}"


# --------------------------------------------------------------------------------------------------------- session


class Session:
    """A running session: its world, its turns and their metadata.

    Raises:
        UnplayableError: its bundle cannot be stood up.
        InfrastructureError: the runtime failed.
    """

    def __init__(
        self,
        scenario: Scenario,
        runtime: str,
        limits: Limits,
        max_turns: int | None = None,
        ahead: Ahead | None = None,
        sample: int = 0,
    ) -> None:
        self.scenario, self.limits, self.sample = scenario, limits, sample
        self.max_turns = max_turns or turn_limit(scenario)
        self.turns = opening(scenario)
        self.prose: list[int] = []
        self.commands = 0
        self.ended = ""
        self.single, self.printed = one_command(scenario), ""
        self.stack = ExitStack()
        opened = ahead.world(scenario) if ahead else open_world(scenario, runtime=runtime, limits=limits)
        try:
            self.world: World = self.stack.enter_context(opened)
        except (SchemaError, ValueError, TypeError, LookupError) as error:
            raise UnplayableError(f"it cannot be stood up: {error}") from error
        self.started = time.monotonic()

    def messages(self) -> list[dict[str, str]]:
        """Return the turns so far, as an operator gets them."""
        return [{"role": t.role, "content": t.content} for t in self.turns]

    def act(self, reply: str) -> bool:
        """Run a reply; return true when the session is over."""
        self.commands += 1
        command = f"{self.single.shell} -c {quoted(reply)}" if self.single else reply
        result = self.world.run(command) if reply.strip() else CommandResult("", 0, None)
        self.turns.append(Turn("assistant", str(reply), train=not isinstance(reply, Mistake)))
        if result.ended is None and is_prose(reply, result):
            self.prose.append(self.commands)
        if result.ended is not None:
            self.ended = result.ended
        elif self.single is not None:
            self.ended, self.printed = "exit", result.output
            self.turns.append(Turn("user", observation(result)))
        elif self.commands >= self.max_turns:
            self.ended = "turn_limit"
        elif time.monotonic() - self.started > self.limits.session_seconds:
            self.ended = "time_limit"
        else:
            self.turns.append(Turn("user", observation(result)))
        return bool(self.ended)

    def verdict(self, name: str) -> Trajectory:
        """Check the world and record the session."""
        verdict = self.world.check()
        clean = not self.prose
        checks = [*verdict.checks, *giving_up(self.scenario, self.ended, self.turns)]
        checks += printed(self.single, self.printed) if self.single else []
        verified = verdict.passed and all(check.passed for check in checks)
        meta = {
            "clean": clean,
            "ended": self.ended,
            "commands": self.commands,
            "prose_turns": self.prose,
            "runtime": self.world.runtime,
            "made_of": made_of(self.world.runtime),
            "checks": {check.name: check.passed for check in checks},
            "detail": "; ".join(check.name for check in checks if not check.passed) or verdict.detail,
            "sample": self.sample,
        }
        outcome = _outcome(self.scenario, self.ended, verified, clean)
        return _record(self.scenario, name, self.turns, outcome, verified, meta)


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
        id=session_id(scenario, name, meta["sample"]),
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


def unplayed(scenario: Scenario, name: str, outcome: str, reason: str, sample: int = 0) -> Trajectory:
    """Return the record of a session that did not finish, with the reason."""
    meta = {
        "clean": False,
        "ended": outcome,
        "commands": 0,
        "prose_turns": [],
        "runtime": "",
        "reason": reason,
        "sample": sample,
    }
    return _record(scenario, name, opening(scenario), outcome, verified=False, meta=meta)


def name_of(operator: object) -> str:
    """Return an operator's name for records: its ``name``, else its class."""
    return str(getattr(operator, "name", "") or type(operator).__name__)


def ahead_of(scenarios: Iterable[Scenario], runtime: str, limits: Limits | None, width: int = AHEAD) -> Ahead:
    """Return the prefetcher of worlds for the next scenarios, for `run_session`.

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
    max_turns: int | None = None,
    ahead: Ahead | None = None,
    sample: int = 0,
) -> Trajectory:
    """Play one session and judge it.

    Args:
        scenario: the world.
        operator: who acts; one with a method ``reset()`` is reset before each attempt.
        runtime: ``auto``, ``docker`` or ``bwrap``.
        limits: of time and memory; the defaults of `Limits` where None.
        max_turns: commands after which the session is stopped; `turn_limit` of the scenario where None.
        ahead: where worlds are open already (see `ahead_of`); it decides their runtime and limits then.
        sample: which of several sessions of this scenario and operator it is.

    Returns:
        The trajectory. A fault of ours is retried, then recorded with the outcome ``infrastructure``; a bundle that
        cannot be stood up or played has the outcome ``bad_bundle``. Neither is raised.
    """
    name, reason = name_of(operator), ""
    for _ in range(ATTEMPTS):
        reset = getattr(operator, "reset", None)
        if callable(reset):
            reset()
        try:
            session = Session(scenario, runtime, limits or Limits(), max_turns, ahead, sample)
            with session.stack:
                while not session.act(operator.reply(session.messages())):
                    pass
                return session.verdict(name)
        except UnplayableError as error:
            return unplayed(scenario, name, "bad_bundle", str(error), sample)
        except InfrastructureError as error:
            reason = str(error)
    return unplayed(scenario, name, "infrastructure", reason, sample)
