"""The reference operator acts on what the terminal has shown, and ends as a person would."""

import re
from dataclasses import replace

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.records.axes import herrings_of, level_of
from tiararodney.posix_sdc.sessions.loop import run_session, turn_limit
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator, ScriptedOperator
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, resolve_runtime


@pytest.fixture(scope="module")
def sessions():
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))
    scenarios = [*generate(40, 3), *generate(30, 3, "holdout"), *generate(40, 3, course="first")]
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


def test_sessions_are_as_long_as_their_work(sessions):
    plain = sorted(t.steps for s, t in sessions[70:])
    assert 5 <= plain[len(plain) // 2] <= 9
    assert plain[-1] <= 20
    assert all(2 * t.steps <= turn_limit(s) for s, t in sessions)
    assert all(t.steps > level_of(s) for s, t in sessions if s.terminal == "exit")


def test_nothing_that_a_person_sees_differs_between_two_recordings_of_a_seed(sessions):
    # All of it: listings with times, sizes and orders, processes that are signalled, archives.
    for scenario, first in (*sessions[:24], *sessions[70:76]):
        assert run_session(scenario, ReferenceOperator(scenario, 1), "bwrap") == first


def test_a_red_herring_is_left_alone(sessions):
    lured = [(s, t) for s, t in sessions if set(herrings_of(s)) & {"done", "other", "stale"}]
    assert len(lured) >= 8
    for s, t in lured:
        ids = {d.id for d in s.directives}
        shows = [x.content for x in t.turns if x.role == "assistant" and x.content.startswith(s.provider.name)]
        verbs = [v.partition(" {id}")[0] for step, v in s.provider.verbs.items() if step in ("show", "claim")]
        asked = {c.removeprefix(v).split()[0] for c in shows for v in verbs if c.startswith(f"{v} ")}
        assert asked <= ids, (s.id, asked, ids)


def test_people_differ(sessions):
    scenario = next(s for s, _ in sessions[70:] if s.announcement.kind == "env" and s.terminal == "exit")
    played = {
        tuple(x.content for x in run_session(scenario, ReferenceOperator(scenario, seed), "bwrap").turns)
        for seed in range(8)
    }
    assert len(played) > 1


def test_people_go_different_ways_and_mistype(sessions):
    played = [x.content for s, t in sessions[:70] for x in t.turns]
    works = [w for s, _ in sessions[:70] for d in s.directives for w in d.extra["works"]]
    other = {c for w in works for way in w["ways"] for c in way if c not in w["solution"]}
    assert len([c for c in played if c in other]) >= 10
    mistakes = [i for i, c in enumerate(played) if "No such file" in c]
    assert len(mistakes) >= 3


def test_a_bundle_of_another_maker_is_played_by_its_reference_solution(sessions):
    scenario = next(s for s, _ in sessions if s.terminal == "exit" and len(s.directives) == 1)
    bare = replace(scenario, directives=tuple(replace(d, extra={}) for d in scenario.directives))
    played = run_session(bare, ReferenceOperator(bare, 1), "bwrap")
    assert played.keep
    assert [x.content for x in played.turns if x.content in scenario.reference_solution] == list(
        scenario.reference_solution
    )


def test_a_reset_operator_begins_again(sessions):
    scenario, first = sessions[1]
    operator = ReferenceOperator(scenario, 1)
    assert [run_session(scenario, operator, "bwrap").turns for _ in range(2)] == [first.turns] * 2


def test_a_scripted_operator_ends_when_its_replies_do():
    operator = ScriptedOperator(["a", "b"])
    assert [operator.reply([]) for _ in range(4)] == ["a", "b", "exit", "exit"]
    operator.reset()
    assert operator.reply([]) == "a"
