"""The reference operator acts on what the terminal has shown, and ends as a person would."""

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tiararodney.posix_sdc.factory.bundles import generate
from tiararodney.posix_sdc.factory.taxonomy import ARCHETYPES
from tiararodney.posix_sdc.records.axes import herrings_of, level_of
from tiararodney.posix_sdc.records.behaviour import behaviour, rates
from tiararodney.posix_sdc.sessions.loop import run_session, turn_limit
from tiararodney.posix_sdc.sessions.operators.mistakes import KINDS
from tiararodney.posix_sdc.sessions.operators.reference import ReferenceOperator
from tiararodney.posix_sdc.sessions.operators.scripted import ScriptedOperator
from tiararodney.posix_sdc.sessions.provenance import unshown
from tiararodney.posix_sdc.worlds.protocol import NoRuntime, resolve_runtime

FIRST = 40  # of the sessions, those of the course for small models: the last ones


@pytest.fixture(scope="module")
def sessions():
    """Play every archetype of both splits once, and plain worlds besides."""
    try:
        resolve_runtime("bwrap")
    except NoRuntime as reason:
        pytest.skip(str(reason))
    names = {split: [a.name for a in ARCHETYPES if a.split == split] for split in ("train", "holdout")}
    full = [s for split, of in names.items() for s in generate(len(of), 3, split, of)]
    scenarios = [*full, *generate(FIRST, 3, course="first")]
    with ThreadPoolExecutor(3) as threads:
        played = threads.map(lambda s: run_session(s, ReferenceOperator(s, 1), "bwrap"), scenarios)
        return list(zip(scenarios, played, strict=True))


pytestmark = pytest.mark.bwrap


def test_every_session_is_kept(sessions):
    assert [(t.id, t.outcome, t.meta) for _, t in sessions if not t.keep] == []
    assert {t.turns[-1].content.split()[0] for _, t in sessions} == {"exit", "panic"}


def test_no_archetype_uses_what_nothing_has_shown(sessions):
    assert [(t.id, x.word, x.command) for _, t in sessions for x in unshown(t)] == []


def test_a_session_that_would_use_the_unshown_is_a_failed_generation(sessions):
    scenario = next(s for s, t in sessions if s.terminal == "exit" and len(s.directives) == 1)
    works = [{**w, "solution": ["cat never-shown.txt"], "ways": []} for w in scenario.directives[0].extra["works"]]
    directive = replace(scenario.directives[0], extra={**scenario.directives[0].extra, "works": works})
    played = run_session(replace(scenario, directives=(directive,)), ReferenceOperator(scenario, 1), "bwrap")
    assert played.keep
    spoilt = replace(scenario, directives=(directive,))
    played = run_session(spoilt, ReferenceOperator(spoilt, 1), "bwrap")
    assert (played.outcome, "never-shown.txt" in played.meta["reason"]) == ("bad_bundle", True)


def test_people_look_before_and_verify_after(sessions):
    found = rates([behaviour(t) for _, t in sessions])
    assert found["of these looked at before"] >= 0.95
    assert found["of all changes verified after"] >= 0.95


def test_long_work_is_looked_at_as_short_work_is(sessions):
    longest = [t for s, t in sessions if level_of(s) >= 6]
    assert len(longest) > 10
    found = rates([behaviour(t) for t in longest])
    assert min(found["of these looked at before"], found["of all changes verified after"]) >= 0.95


def test_mistakes_are_context_and_put_right(sessions):
    """About three sessions in ten hold one; none ends with it."""
    mistaken = [t for _, t in sessions if not all(x.train for x in t.turns)]
    assert 0.2 <= len(mistaken) / len(sessions) <= 0.42
    for t in mistaken:
        last = max(i for i, x in enumerate(t.turns) if not x.train)
        assert sum(x.role == "assistant" for x in t.turns[last + 1 :]) >= 2
        assert t.keep


def test_errors_mostly_come_from_ones_own_act(sessions):
    """The same message is followed by another command far more often than by giving up, and never at once by that."""
    after = []
    for _, t in sessions:
        for shown, reply in zip(t.turns[3::2], t.turns[4::2], strict=False):
            if re.search("No such file|Permission denied", shown.content):
                after.append(reply.content.split()[0])
    assert len(after) > 40
    assert "panic" not in after
    found = rates([behaviour(t) for _, t in sessions])
    assert found["of these followed by a panic within three commands"] < 0.2
    kinds = {"exit": set(), "panic": set()}
    for s, t in sessions:
        kinds[s.terminal] |= set(re.findall("No such file|Permission denied", "".join(x.content for x in t.turns)))
    assert kinds["exit"] == kinds["panic"] == {"No such file", "Permission denied"}


def test_a_named_place_is_gone_to(sessions):
    """The place is looked into before the provider is known, and what went wrong on the way is put right."""
    named = [(s, t) for s, t in sessions if s.announcement.extra.get("named")]
    assert len(named) >= 12
    astray = 0
    for s, t in named:
        commands = [(x.content, x.train) for x in t.turns if x.role == "assistant"]
        first = next(i for i, (c, _) in enumerate(commands) if re.search(rf"\b{s.provider.name}\b", c))
        last = s.announcement.extra["leads"][-1]["try"]
        assert any(c in last for c, train in commands[:first] if train), (t.id, commands)
        astray += any(not train and re.match("cat|ls", c) for c, train in commands[: first - 1])
    assert 0.1 <= astray / len(named) <= 0.7


def test_a_result_is_sometimes_looked_for_before_the_work(sessions):
    early = 0
    for _, t in sessions:
        tried = [
            x.content for x, y in zip(t.turns, t.turns[1:], strict=False) if "No such file" in y.content and x.train
        ]
        early += any(
            re.fullmatch(r"(cat|ls) \S+", c) and f"> {c.split()[1]}" in "\n".join(x.content for x in t.turns)
            for c in tried
        )
    assert early >= 5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mistake_happens_in_a_real_world(kind, sessions, monkeypatch):
    """Alone, so that each is seen to be put right; the work still succeeds."""
    from tiararodney.posix_sdc.sessions.operators import mistakes, reference

    monkeypatch.setattr(mistakes, "KINDS", {kind: KINDS[kind]})
    monkeypatch.setattr(reference, "_MISTAKEN", 1.0)
    monkeypatch.setattr(reference, "_EARLY", 0.0)
    monkeypatch.setattr(reference, "_ASTRAY", 0.0)
    played = []
    for s, _ in sessions[-FIRST:]:
        if s.terminal == "exit" and len(played) < 3:
            t = run_session(s, ReferenceOperator(s, 5), "bwrap")
            played += [t] if not all(x.train for x in t.turns) else []
    assert len(played) >= 2
    assert {t.outcome for t in played} == {"success"}


def test_a_panic_names_a_cause_that_was_checked(sessions):
    stuck = [(s, t) for s, t in sessions if s.terminal == "panic"]
    assert len(stuck) >= 8
    for s, t in stuck:
        commands = [x.content for x in t.turns if x.role == "assistant"]
        (guide,) = [w for d in s.directives for w in d.extra["works"] if w["block"]]
        assert commands[-1] == f"panic {guide['reason']}"
        look = {"missing": r"ls|find", "denied": r"ls -l|stat", "failing": r"cat|ls", "contradiction": r"\S+"}
        assert re.match(look[guide["block"]], commands[-2]), (t.id, commands[-3:])


def test_directives_are_never_repeated_as_prose(sessions):
    for s, t in sessions:
        said = "\n".join(turn.content for turn in t.turns if turn.role == "assistant")
        assert not [d.text for d in s.directives if d.text in said]


def test_sessions_are_as_long_as_their_work(sessions):
    plain = sorted(t.steps for s, t in sessions[-FIRST:])
    assert 6 <= plain[len(plain) // 2] <= 10
    assert plain[-1] <= 24
    assert all(2 * t.steps <= turn_limit(s) for s, t in sessions)
    assert all(t.steps > level_of(s) for s, t in sessions if s.terminal == "exit")


def test_nothing_that_a_person_sees_differs_between_two_recordings_of_a_seed(sessions):
    # All of it: listings with sizes and orders, processes that are signalled, archives. A file that the session itself
    # makes has the time of day.
    def seen(session):
        return [(t.role, re.sub(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d", "NOW", t.content), t.train) for t in session.turns]

    for scenario, first in (*sessions[:80:4], *sessions[-6:]):
        again = run_session(scenario, ReferenceOperator(scenario, 1), "bwrap")
        assert seen(again) == seen(first)
        assert (again.outcome, again.keep, again.meta) == (first.outcome, first.keep, first.meta)


def test_a_red_herring_is_left_alone(sessions):
    lured = [(s, t) for s, t in sessions if set(herrings_of(s)) & {"done", "other", "stale"}]
    assert len(lured) >= 4
    for s, t in lured:
        ids = {d.id for d in s.directives}
        shows = [x.content for x in t.turns if x.train and x.content.startswith(s.provider.name)]
        verbs = [v.partition(" {id}")[0] for step, v in s.provider.verbs.items() if step in ("show", "claim")]
        asked = {c.removeprefix(v).split()[0] for c in shows for v in verbs if c.startswith(f"{v} ")}
        assert asked <= ids, (s.id, asked, ids)


def test_people_differ(sessions):
    scenario = next(s for s, _ in sessions[-FIRST:] if s.announcement.kind == "env" and s.terminal == "exit")
    played = {
        tuple(x.content for x in run_session(scenario, ReferenceOperator(scenario, seed), "bwrap").turns)
        for seed in range(8)
    }
    assert len(played) > 1


def test_people_go_different_ways(sessions):
    played = [x.content for s, t in sessions[:-FIRST] for x in t.turns]
    works = [w for s, _ in sessions[:-FIRST] for d in s.directives for w in d.extra["works"]]
    other = {c for w in works for way in w["ways"] for c in way if c not in w["solution"]}
    assert len([c for c in played if c in other]) >= 10


def test_a_bundle_of_another_maker_is_played_by_its_reference_solution(sessions):
    # Such a bundle does not say where the use of an invented utility stands.
    single = (s for s, _ in sessions if s.terminal == "exit" and len(s.directives) == 1)
    scenario = next(s for s in single if not any(w.get("learn") for w in s.directives[0].extra["works"]))
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
