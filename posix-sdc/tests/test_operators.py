"""The reference operator acts on what the terminal has shown, and ends as a person would."""

import re

import pytest

from tiararodney.posix_sdc.generate import generate
from tiararodney.posix_sdc.operators import ReferenceOperator, ScriptedOperator
from tiararodney.posix_sdc.rollout import run_session
from tiararodney.posix_sdc.world import NoRuntime, resolve_runtime


@pytest.fixture(scope="module")
def sessions():
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))
    scenarios = [*generate(90, 3), *generate(30, 3, "holdout")]
    return [(s, run_session(s, ReferenceOperator(s, 1), runtime="bwrap")) for s in scenarios]


pytestmark = pytest.mark.bwrap


def test_every_session_is_kept(sessions):
    assert [(t.id, t.outcome) for _, t in sessions if not t.keep] == []
    assert {t.turns[-1].content.split()[0] for _, t in sessions} == {"exit", "panic"}


def test_no_command_uses_a_name_before_the_terminal_has_shown_it(sessions):
    for s, t in sessions:
        shown = ""
        for turn in t.turns:
            if turn.role == "user":
                shown += turn.content
            elif turn.role == "assistant":
                named = {
                    w
                    for w in re.findall(r"[\w./-]+", turn.content)
                    if w == s.provider.name or w in {d.id for d in s.directives}
                }
                assert all(w in shown for w in named), (t.id, turn.content)


def test_directives_are_never_repeated_as_prose(sessions):
    for s, t in sessions:
        said = "\n".join(turn.content for turn in t.turns if turn.role == "assistant")
        assert not [d.text for d in s.directives if d.text in said]


def test_sessions_are_short(sessions):
    steps = sorted(t.steps for _, t in sessions)
    assert 5 <= steps[len(steps) // 2] <= 9
    assert steps[-1] <= 20


def test_people_differ(sessions):
    scenario = next(s for s, _ in sessions if s.announcement.kind == "env" and s.terminal == "exit")
    played = {
        tuple(x.content for x in run_session(scenario, ReferenceOperator(scenario, seed), "bwrap").turns)
        for seed in range(8)
    }
    assert len(played) > 1


def test_the_same_seed_plays_the_same_session(sessions):
    scenario, first = sessions[0]
    again = run_session(scenario, ReferenceOperator(scenario, 1), "bwrap")
    assert again == first


def test_a_reset_operator_begins_again(sessions):
    scenario, first = sessions[1]
    operator = ReferenceOperator(scenario, 1)
    assert [run_session(scenario, operator, "bwrap").turns for _ in range(2)] == [first.turns] * 2


def test_a_scripted_operator_ends_when_its_replies_do():
    operator = ScriptedOperator(["a", "b"])
    assert [operator.reply([]) for _ in range(4)] == ["a", "b", "exit", "exit"]
    operator.reset()
    assert operator.reply([]) == "a"
