"""The session loop, with a scripted operator and a world that lives in memory."""

from dataclasses import replace

import pytest

from tiararodney.posix_sdc.errors import UnplayableError
from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.records.schema import Announcement, Checker, Directive
from tiararodney.posix_sdc.sessions.judgement import READ, REASON
from tiararodney.posix_sdc.sessions.loop import (
    OUTCOMES,
    Mistake,
    observation,
    opening,
    orientation,
    run_session,
    session_id,
    turn_limit,
)
from tiararodney.posix_sdc.sessions.operators.reference import ScriptedOperator
from tiararodney.posix_sdc.sessions.prose import is_prose
from tiararodney.posix_sdc.worlds.protocol import CommandResult, Limits

SCENARIO = next(s for s in generate(20, 0) if s.terminal == "exit")
BLOCKED = next(s for s in generate(40, 0) if s.terminal == "panic")


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
        "made_of": {},
        "checks": {},
        "detail": "",
        "sample": 0,
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
    assert {*found, "success", "bad_bundle", "infrastructure"} == set(OUTCOMES)


def test_panic_needs_the_directive_read_and_the_cause_named(worlds):
    """The in-memory world prints what is echoed, so a session can be shown the directive there."""
    blocked = replace(
        BLOCKED,
        directives=(Directive("7", "Sort plum.txt"),),
        checker=Checker("true", extra={"reason": [["plum"], ["missing", "no such"]], "blocked": "7"}),
    )
    read = "echo 'Sort plum.txt'"
    t = play("touch x", read, "panic no such file: plum.txt", scenario=blocked)
    assert (t.outcome, t.verified) == ("success", True)
    assert t.meta["checks"] == {READ: True, REASON: True}
    for replies, detail in [
        (("touch x", "panic plum.txt is missing"), READ),
        (("touch x", read, "panic"), REASON),
        (("touch x", read, "panic plum.txt is green"), REASON),
        (("touch x", read, "panic oak.txt is missing"), REASON),
        (("touch x", read, "panic plum missing " + 200 * "or else "), REASON),
    ]:
        t = play(*replies, scenario=blocked)
        assert (t.outcome, t.verified, t.meta["detail"]) == ("unverified", False, detail), replies
    t = play("touch x", read, "exit", scenario=blocked)
    assert (t.outcome, t.verified) == ("wrong_terminal", False)


def test_a_session_past_its_wall_time_is_stopped(worlds):
    t = play("touch x", "echo a", limits=replace(Limits(), session_seconds=-1.0))
    assert (t.outcome, t.meta["ended"], t.steps) == ("turn_limit", "time_limit", 1)


def test_a_fault_of_ours_is_retried_from_the_start(worlds):
    worlds.plan = lambda: worlds.world(fail_at=1 if len(worlds) < 2 else -1)
    t = play("echo a", "touch x", "exit")
    assert t.outcome == "success"
    assert [w.ran for w in worlds] == [["echo a", "touch x"]] * 2 + [["echo a", "touch x", "exit"]]


def test_a_fault_that_stays_is_reported_apart_with_its_reason(worlds):
    worlds.plan = lambda: worlds.world(fail_at=0)
    t = play("exit")
    assert (t.outcome, t.keep, t.meta["reason"], len(worlds)) == ("infrastructure", False, "the engine went away", 3)


def test_an_error_in_the_operator_is_not_swallowed_and_closes_the_world(worlds):
    class Broken:
        def reply(self, messages):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_session(SCENARIO, Broken())
    assert len(worlds) == 1


def test_a_bundle_that_cannot_be_played_is_its_own_outcome(worlds):
    """Neither the run nor another bundle suffers from it."""

    class Lost:
        name = "lost"

        def reply(self, messages):
            raise UnplayableError("its provider has no verb 'show'")

    found = run_session(SCENARIO, Lost())
    assert (found.outcome, found.keep, found.meta["reason"]) == ("bad_bundle", False, "its provider has no verb 'show'")
    worlds.plan = lambda: {}["no such key"]
    assert play("exit").outcome == "bad_bundle"
    assert "no such key" in play("exit").meta["reason"]


def test_a_mistake_is_recorded_as_context(worlds):
    t = play(Mistake("echo no"), "touch x", "exit")
    assert [x.train for x in t.turns if x.role == "assistant"] == [False, True, True]
    assert type(t.turns[2].content) is str


def test_records_are_keyed_by_scenario_operator_and_sample(worlds):
    ids = {run_session(SCENARIO, ScriptedOperator(["exit"], name), sample=k).id for name in "ab" for k in (0, 1)}
    assert ids == {session_id(SCENARIO, name, k) for name in "ab" for k in (0, 1)}
    assert len(ids) == 4
    assert play("exit", sample=3).meta["sample"] == 3


def test_the_limit_of_turns_comes_from_the_bundle(worlds):
    limit = turn_limit(SCENARIO)
    assert play(*["echo a"] * (limit + 1)).steps == limit
    longer = replace(SCENARIO, directives=SCENARIO.directives * 3)
    assert turn_limit(longer) > limit


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
