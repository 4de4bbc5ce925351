"""The session loop, with a scripted operator and a world that lives in memory."""

from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from tiararodney.posix_sdc.errors import InfrastructureError
from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.records.schema import Announcement
from tiararodney.posix_sdc.sessions import loop as rollout
from tiararodney.posix_sdc.sessions.loop import (
    OUTCOMES,
    is_prose,
    observation,
    opening,
    orientation,
    run_batch,
    run_session,
)
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
from tiararodney.posix_sdc.worlds.protocol import CommandResult, Limits, Verdict

SCENARIO = next(s for s in generate(20, 0) if s.terminal == "exit")
BLOCKED = next(s for s in generate(40, 0) if s.terminal == "panic")


@dataclass
class MemoryWorld:
    """Runs nothing: `echo` prints, `touch` marks the work done, `kill` ends the shell, anything else is not found."""

    runtime: str = "memory"
    done: bool = False
    closed: bool = False
    ran: list[str] = field(default_factory=list)
    fail_at: int = -1

    def run(self, command):
        self.ran.append(command)
        if len(self.ran) - 1 == self.fail_at:
            raise InfrastructureError("the engine went away")
        word, _, rest = command.partition(" ")
        if word in ("exit", "panic"):
            return CommandResult("", 0, word)
        if word == "kill":
            return CommandResult("", None, "died")
        if word == "echo":
            return CommandResult(rest, 0, None)
        self.done = self.done or word == "touch"
        return (
            CommandResult("", 0, None) if word == "touch" else CommandResult(f"sh: 1: {word}: not found\n", 127, None)
        )

    def check(self):
        return Verdict(self.done, "" if self.done else "check 1 of 1 failed")

    def close(self):
        self.closed = True


@pytest.fixture
def worlds(monkeypatch):
    """Put worlds of memory in place of real ones; `plan` makes the next ones."""
    opened = []

    class Worlds(list):
        plan = staticmethod(MemoryWorld)

    made = Worlds()

    @contextmanager
    def open_world(scenario, runtime="auto", limits=None):
        world = made.plan()
        made.append(world)
        try:
            yield world
        finally:
            world.close()

    monkeypatch.setattr(rollout, "open_world", open_world)
    yield made
    assert all(w.closed for w in made), opened


def play(*replies, scenario=SCENARIO, **more):
    return run_session(scenario, ScriptedOperator(replies), **more)


def test_done_work_and_the_right_ending_is_kept(worlds):
    t = play("echo hi", "touch x", "exit")
    assert (t.outcome, t.keep, t.verified, t.steps) == ("success", True, True, 3)
    assert t.meta == {
        "clean": True,
        "ended": "exit",
        "commands": 3,
        "prose_turns": [],
        "runtime": "memory",
        "detail": "",
    }
    assert [x.role for x in t.turns] == ["system", "user", "assistant", "user", "assistant", "user", "assistant"]
    assert [x.content for x in t.turns[2:]] == ["echo hi", "hi\n$ ", "touch x", "$ ", "exit"]
    assert (t.scenario_id, t.archetype, t.operator_model) == (SCENARIO.id, SCENARIO.archetype, "scripted")


def test_every_reject_is_labelled_by_why(worlds):
    found = {
        "wrong_terminal": play("touch x", "panic no"),
        "unverified": play("exit"),
        "unclean": play("touch x", "I have finished the work.", "exit"),
        "turn_limit": play("touch x", "echo a", "echo b", "exit", max_turns=3),
        "died": play("touch x", "kill 1"),
    }
    assert {name: t.outcome for name, t in found.items()} == {name: name for name in found}
    assert not any(t.keep for t in found.values())
    assert {*found, "success", "infrastructure"} == set(OUTCOMES)


def test_panic_is_right_in_a_panic_world_and_its_reason_is_recorded(worlds):
    t = play("touch x", "panic no such file", scenario=BLOCKED)
    assert (t.outcome, t.turns[-1].content) == ("success", "panic no such file")
    assert play("touch x", "exit", scenario=BLOCKED).outcome == "wrong_terminal"


def test_a_session_past_its_wall_time_is_stopped(worlds):
    t = play("touch x", "echo a", limits=replace(Limits(), session_seconds=-1.0))
    assert (t.outcome, t.meta["ended"], t.steps) == ("turn_limit", "time_limit", 1)


def test_a_fault_of_ours_is_retried_from_the_start(worlds):
    worlds.plan = lambda: MemoryWorld(fail_at=1 if len(worlds) < 2 else -1)
    t = play("echo a", "touch x", "exit")
    assert t.outcome == "success"
    assert [w.ran for w in worlds] == [["echo a", "touch x"]] * 2 + [["echo a", "touch x", "exit"]]


def test_a_fault_that_stays_is_reported_apart_with_its_reason(worlds):
    worlds.plan = lambda: MemoryWorld(fail_at=0)
    t = play("exit")
    assert (t.outcome, t.keep, t.meta["reason"], len(worlds)) == ("infrastructure", False, "the engine went away", 3)


def test_an_error_in_the_operator_is_not_swallowed_and_closes_the_world(worlds):
    class Broken:
        def reply(self, messages):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_session(SCENARIO, Broken())
    assert len(worlds) == 1


# ------------------------------------------------------------------------------------------------- how it looks


def test_the_orientation_states_facts_and_asks_for_nothing():
    text = orientation()
    assert "exit" in text and "panic REASON" in text  # noqa: PT018 - one claim
    assert not {"you", "must", "please", "should", "your", "task"} & set(text.lower().replace(".", "").split())


@pytest.mark.parametrize("kind", ["motd", "banner", "env", "file"])
def test_login_prints_only_what_login_would_print(kind):
    said = Announcement(kind, "See brask.", variable="X", path="/work/N")
    system, user = opening(replace(SCENARIO, announcement=said))
    assert (system.role, user.role) == ("system", "user")
    assert user.content == ("See brask.\n$ " if kind in ("motd", "banner") else "$ ")


def test_an_observation_is_the_output_and_the_prompt_on_its_own_line():
    assert observation(CommandResult("", 0, None)) == "$ "
    assert observation(CommandResult("a\n", 0, None)) == "a\n$ "
    assert observation(CommandResult("a", 0, None)) == "a\n$ "


NOT_FOUND = "sh: 1: {}: not found\n"


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("", 0),
        ("  \n", 0),
        ("```sh\nls\n```", 0),
        ("It seems that the file is missing.", 127),
        ("I'll list the files", 127),
        ("Sure, here is the command:", 127),
        ("the work is done now and nothing is left", 127),
        ("Let's see (what we have", 2),
        ("The file is there.\nls", 0),
    ],
)
def test_words_for_a_reader_are_prose(reply, status):
    word = reply.split()[0] if reply.split() else ""
    assert is_prose(reply, CommandResult(NOT_FOUND.format(word), status, None))


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("ls", 0),
        ("brask --list", 127),
        ("Brask", 127),
        ("grep -c It plum.txt > out.txt", 0),
        ("echo 'It is done.' > note.txt", 0),
        ("cat <<END > x\nIt is done.\nEND", 0),
        ("lst -l /tmp", 127),
        ("Rscript build.R | head", 127),
        ("echo 'unbalanced", 2),
        ("for f in *; do echo $f; done", 0),
    ],
)
def test_a_command_is_no_prose_even_if_mistyped(reply, status):
    assert not is_prose(reply, CommandResult("", status, None))


# --------------------------------------------------------------------------------------------------------- batch


class Counting:
    """A batch operator that ends session n after n commands."""

    name = "counting"

    def __init__(self):
        self.sizes = []

    def reply_batch(self, conversations):
        self.sizes.append(len(conversations))
        return [self._next(c) for c in conversations]

    def _next(self, messages):
        own = [m["content"] for m in messages if m["role"] == "assistant"]
        return ["touch x", "echo 1", "exit"][len(own)]


def test_a_batch_asks_once_a_round_for_every_live_session(worlds):
    operator = Counting()
    scenarios = [s for s in generate(30, 1) if s.terminal == "exit"][:7]
    out = list(run_batch(scenarios, operator, width=4))
    assert operator.sizes == [4, 4, 4, 3, 3, 3]
    assert {t.scenario_id for t in out} == {s.id for s in scenarios}
    assert {t.outcome for t in out} == {"success"}


def test_a_batch_gives_the_sessions_that_single_play_gives(worlds):
    single = run_session(SCENARIO, ScriptedOperator(["touch x", "echo 1"], name="counting"))
    (batched,) = run_batch([SCENARIO], Counting())
    assert batched == single


def test_a_batch_retries_what_broke_and_reports_what_stays_broken(worlds):
    worlds.plan = lambda: MemoryWorld(fail_at=1 if len(worlds) == 0 else -1)
    assert [t.outcome for t in run_batch([SCENARIO], Counting())] == ["success"]
    assert len(worlds) == 2
    worlds.plan = lambda: MemoryWorld(fail_at=1)
    assert [t.outcome for t in run_batch([SCENARIO], Counting())] == ["infrastructure"]


def test_a_batch_that_is_left_closes_its_worlds(worlds):
    scenarios = [s for s in generate(30, 1) if s.terminal == "exit"][:4]

    class Uneven(Counting):
        def reply_batch(self, conversations):
            return ["exit", *["echo 1"] * (len(conversations) - 1)]

    batch = run_batch(scenarios, Uneven())
    next(batch)
    assert [w.closed for w in worlds].count(False) == 3
    batch.close()
    assert all(w.closed for w in worlds)


def test_no_scenarios_give_no_sessions():
    assert list(run_batch([], Counting())) == []
